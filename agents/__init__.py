"""One flat file per agent. Each reads top to bottom; what several share lives in metagym.rl."""
