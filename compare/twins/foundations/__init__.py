"""Twins of the first networks."""
