"""Corrections: what a clinician's tool left in and beside annotation packages, verified and turned into label maps."""

from uga.corrections.correction import Correction, CorrectionSet, Refusal
from uga.corrections.reader import read_corrections

__all__ = ["Correction", "CorrectionSet", "Refusal", "read_corrections"]
