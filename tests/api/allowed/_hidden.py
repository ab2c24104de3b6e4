"""A private module."""

raise AssertionError("nobody named this module")
