"""Twins of the recurrent networks."""
