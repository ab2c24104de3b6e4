"""Counters, gauges and histograms, and the standard set of them."""
