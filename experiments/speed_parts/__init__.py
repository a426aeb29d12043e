"""What ``python experiments/speed.py`` measures: a file for each part of its table.

``timing`` has the clocks. Every part has ``measure(...)``, which returns what goes into
speed.json, and ``show(results)``, the lines that are printed of it.
"""
