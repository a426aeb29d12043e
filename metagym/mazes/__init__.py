"""Mazes: what one is (grid), the frozen lists of them (lists), what an agent sees (view)."""
