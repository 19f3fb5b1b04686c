"""Corrected patches in, a fine-tuned ensemble out: mixed with old patches, compared with its parent, guarded."""
