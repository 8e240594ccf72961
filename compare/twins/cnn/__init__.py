"""Twins of the convolutional networks."""
