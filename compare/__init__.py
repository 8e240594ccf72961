"""The shared ground of Diptych: one set of weights, two frameworks, one verdict."""

from compare.errors import DiptychError
from compare.twin import Array, Image, Labels, Lengths, Phase, Tokens, Twin

__all__ = ["Array", "DiptychError", "Image", "Labels", "Lengths", "Phase", "Tokens", "Twin"]
