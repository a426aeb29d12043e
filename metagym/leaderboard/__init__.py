"""The leaderboard: rows that a command makes, that checks accept and that anybody can re-run.

A row is one agent on one suite (``metagym.evaluation.suites``): a JSON file of Results.
``metagym leaderboard run`` makes it, ``add`` puts it on the board, ``verify`` runs it again.
"""

from metagym.leaderboard.rows import Entry, Failure, Row, RowError, load_rows

__all__ = ["Entry", "Failure", "Row", "RowError", "load_rows"]
