"""Frames: optimisation runs (optimization), and on a canvas trials and architectures (graphs)."""
