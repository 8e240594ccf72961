"""Twins of the autoencoders."""
