"""Asking Redis: to schedule, change, list and wait. Each function takes a `Client`, never the scheduler."""
