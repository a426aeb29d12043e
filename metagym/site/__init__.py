"""The site: static pages out of docstrings, results and the leaderboard's rows, by one command.

``build.build_site(out, board)`` makes it from a checkout; it needs the extra ``docs``. What it
writes opens from a local folder and asks nothing of the network.
"""
