"""Data sets and task distributions: texts for language models."""

from metagym.tasks.text import Text, load_ptb, load_text, make_text

__all__ = ["Text", "load_ptb", "load_text", "make_text"]
