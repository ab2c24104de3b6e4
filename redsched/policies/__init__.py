"""What happens when a run fails: retries and circuit breakers."""
