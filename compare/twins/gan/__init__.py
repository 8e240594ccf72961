"""Twins of the generative adversarial networks."""
