"""Whole-slide images: one reader for all formats, exact resampling to the working grid."""

from uga.slide.slide import Level, Slide, open_slide

__all__ = ["Level", "Slide", "open_slide"]
