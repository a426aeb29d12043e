"""Frames: optimisation runs (optimization) and trials (trials, on a canvas)."""
