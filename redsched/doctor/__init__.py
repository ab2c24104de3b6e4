"""Examines a server and what is stored in it, and says what to change."""
