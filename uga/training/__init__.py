"""Slides and reference annotations in, a five-fold nnU-Net ensemble out."""
