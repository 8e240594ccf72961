"""Layers whose semantics Linen leaves open or defines differently from torch."""
