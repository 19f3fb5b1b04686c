"""The whole human-in-the-loop experiment: query patches, take corrections from references, fine-tune, evaluate."""
