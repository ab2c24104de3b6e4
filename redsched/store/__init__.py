"""The store: the only part of redsched that speaks to Redis."""
