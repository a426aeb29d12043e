"""The clocks: contestants take turns, so a change of the machine's speed meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Contestant = Callable[[], float]


def rate(step: Callable[[], Any], steps: int) -> float:
    """Calls of ``step`` per second, after a tenth as many to warm up."""
    for _ in range(max(1, steps // 10)):
        step()
    return steps / seconds(lambda: [step() for _ in range(steps)])


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of ``work()``."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def turns(contestants: Mapping[str, Contestant], repetitions: int) -> dict[str, list[float]]:
    """What each contestant returns in each repetition."""
    rounds = [{name: run() for name, run in contestants.items()} for _ in range(repetitions)]
    return {name: [each[name] for each in rounds] for name in contestants}


def ratios(a: Contestant, b: Contestant, repetitions: int) -> dict[str, Any]:
    """a/b, measured in turns: median, smallest and largest ratio, and the median rates."""
    rates = turns({"a": a, "b": b}, repetitions)
    return ratio(rates["a"], rates["b"])


def ratio(a: list[float], b: list[float]) -> dict[str, Any]:
    """``ratios`` of rates that were measured in turns."""
    return summary([x / y for x, y in zip(a, b, strict=True)]) | {
        "rates": [float(np.median(a)), float(np.median(b))]
    }


def summary(values: list[float]) -> dict[str, Any]:
    """Median, smallest and largest."""
    return {"median": float(np.median(values)), "range": [min(values), max(values)]}


def show_ratio(name: str, result: Mapping[str, Any], goal: str, unit: str = "steps/s") -> str:
    """One line of the table: the ratio, its range and goal, and the two rates."""
    low, high = result["range"]
    a, b = result["rates"]
    digits = 0 if b >= 100 else 1
    return (
        f"{name:30} {result['median']:7.2f}  [{low:.2f}, {high:.2f}]  goal {goal:8}"
        f"  {a:12,.{digits}f} / {b:,.{digits}f} {unit}"
    )
