"""Frames: optimisation runs (optimization), and on a canvas trials, the processes of trials
(processes) and architectures (graphs)."""
