"""Bytes: how values, records and seals are encoded, and decoded where anyone may have written them."""
