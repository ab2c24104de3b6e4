"""A package that a test allows as a source of tasks."""
