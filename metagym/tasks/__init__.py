"""Data sets and task distributions: few-shot tasks, texts for language models.

``make_tasks(name)`` builds a distribution of few-shot tasks; ``TASKS`` is the one table of names.
They load, torch with them, when they are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metagym.named import lazy_attribute, make_named
from metagym.tasks.image_sets import IMAGE_SETS
from metagym.tasks.text import Text, load_ptb, load_sklearn, load_text, make_text

if TYPE_CHECKING:
    from metagym.tasks.few_shot import TaskDistribution

TASKS: dict[str, str] = {
    "sinusoid": "metagym.tasks.sinusoid:Sinusoid",
    **{name: f"metagym.tasks.episodes:{name}" for name in IMAGE_SETS},
}

# What ``from metagym.tasks import ...`` finds besides; each loads with its first use.
_LAZY = {
    "ImageSet": "metagym.tasks.image_sets",
    "ImageTasks": "metagym.tasks.episodes",
    "Sinusoid": "metagym.tasks.sinusoid",
    "TaskDistribution": "metagym.tasks.few_shot",
    "Tasks": "metagym.tasks.few_shot",
    "load_image_set": "metagym.tasks.image_sets",
}

__all__ = ["TASKS", "Text", "load_ptb", "load_sklearn", "load_text", "make_tasks", "make_text"]


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, name, _LAZY)


def make_tasks(name: str, **kwargs: Any) -> TaskDistribution:
    """The distribution of few-shot tasks called ``name``.

    Args:
        name: one of ``TASKS``.
        **kwargs: its arguments: those of ``Sinusoid``, or those of ``ImageTasks`` together with
            those of the image set's loader (``make_tasks("omniglot", ways=20, folder=...)``).
            The default of ``ways`` is 5, and 3 for digits.

    Raises:
        InvalidArgumentError: no such name or argument, or a bad value.
        DataError: files of an image set are missing or malformed.
    """
    made: TaskDistribution = make_named("tasks", name, TASKS, kwargs)
    return made
