"""A file in a folder without __init__.py: it belongs to no package."""

raise AssertionError("nobody named this module")
