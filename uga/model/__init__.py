"""Segmentation models: nnU-Net v2 ensembles in verified model folders."""
