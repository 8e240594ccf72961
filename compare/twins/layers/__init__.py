"""Twins of the layers."""
