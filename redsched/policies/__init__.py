"""Policies for runs that fail: retries and circuit breakers."""
