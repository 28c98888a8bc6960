"""Synthetic overhead scenes with known changes: images, masks, truth, captions and questions, from a seed."""

from btcchat.synthetic.samples import SyntheticSample, make_image, make_pair, make_series, make_video, swap
from btcchat.synthetic.scene import KINDS, PLACES
from btcchat.synthetic.text import corpus

__all__ = [
    "KINDS",
    "PLACES",
    "SyntheticSample",
    "make_image",
    "make_pair",
    "make_series",
    "make_video",
    "corpus",
    "swap",
]
