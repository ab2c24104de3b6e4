"""The process around a scheduler: forks and event loops."""
