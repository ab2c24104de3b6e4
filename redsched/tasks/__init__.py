"""The functions that a worker may run: the registry, the decorator, and tasks as classes."""
