"""The embedded server: a real Valkey or Redis on a unix socket, started and kept by redsched."""
