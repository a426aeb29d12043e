"""Recurrent cells found by search, against the plain RNN, the GRU and the LSTM.

    python experiments/recurrent_cell.py            # on one core, within 30 minutes
    python experiments/recurrent_cell.py --full     # more children, larger models, more epochs

Character-level language models of the Penn Treebank, of which METAGYM_DATA holds the valid and the
test text: trained on the valid text, validated on the first half of the test text, tested on the
second, so that no number compares with the literature's. Every model in the table has the same
number of parameters, for which its width is solved, reads the same text for the same number of
epochs, and has the best of the same learning rates for itself, by validation perplexity.

Each search trains the same number of different children, on less text and with one seed, and sees
their validation perplexity alone. Its best few are trained again as long as everybody is, and the
one with the lowest validation perplexity goes into the table, trained anew with other seeds. There
is one search of each kind: the table compares cells, and says little about how good the searches
are on average. Their settings were chosen on NAS-Bench-201, not here.

Everything trained is kept in cache.db in the output folder: a run that was interrupted goes on
where it stopped, and prints the same table.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

from metagym.agents.architecture_search import (
    RandomSearch,
    RegularizedEvolution,
    ReinforceLogits,
    Searcher,
    search,
)
from metagym.agents.randomized_values import RandomizedValues
from metagym.architectures.cache import ResultCache
from metagym.architectures.enas_rnn import ENAS_CELL, ENASRecurrent
from metagym.architectures.evaluator import Evaluation, Evaluator
from metagym.architectures.language import LanguageModelEvaluator, LanguageRecord, LanguageSettings
from metagym.architectures.recurrent import RecurrentSpace
from metagym.architectures.recurrent_modules import BASELINES, baseline
from metagym.architectures.recurrent_tree import NAS_CELL, RecurrentTree
from metagym.errors import check_choice
from metagym.evaluation.results import command_line, git_state, machine, versions
from metagym.evaluation.statistics import Estimate, estimate
from metagym.files import write_atomically
from metagym.monitoring import progress_bar
from metagym.tasks import Text, load_ptb, load_text

RANDOM = "random search"
SEARCHERS: dict[str, Callable[[], Searcher]] = {
    RANDOM: RandomSearch,
    "regularised evolution": partial(RegularizedEvolution, 10, 3),
    "REINFORCE, ranks": partial(ReinforceLogits, 0.1, advantage="rank"),
    # Pairs of 34 tokens would be too many features; the values are linear in single tokens.
    "randomised values": partial(RandomizedValues, pairs=0.0, pool=2000),
}
SPACES: dict[str, tuple[Callable[[], RecurrentSpace], str, str]] = {
    "tree": (RecurrentTree, "published cell (Zoph & Le)", NAS_CELL),
    "enas": (ENASRecurrent, "published cell (ENAS)", ENAS_CELL),
}
SEARCH_EVALUATION = 30_000  # symbols of the validation text that score a child of a search


@dataclass(frozen=True)
class Config:
    """The experiment; what is None follows from ``full``.

    Args:
        full: the long version.
        out: folder of the cache, results.json and table.md.
        data: folder with the Penn Treebank, or a text file of your own, of which 80 % of the lines
            train, 10 % validate and 10 % test; None: the folder METAGYM_DATA.
        space: "tree" (base 8) or "enas" (12 nodes).
        level: "character" or "word".
        searchers: a selection; all by default.
        children: of each search; no cell counts twice.
        search_symbols: of the training text that a child reads.
        search_parameters: of a child.
        finalists: of each search, trained as long as everybody.
        parameters: of each model in the table.
        epochs: of each model in the table.
        seeds: of each model in the table.
        search_rate: learning rate of Adam for the children; one with which RNN, GRU and LSTM all
            learn.
        rates: of Adam in the table, of which each model gets the best for itself, by the
            validation perplexity of a training with a seed of its own.
        steps: symbols through which gradients go back, of children and in the table; where so
            little text is read, many updates are worth more than long ones.
        seed: of the searches.
    """

    full: bool = False
    out: Path = Path("results/recurrent_cell")
    data: Path | None = None
    space: str = "tree"
    level: str = "character"
    searchers: tuple[str, ...] = tuple(SEARCHERS)
    children: int | None = None
    search_symbols: int | None = None
    search_parameters: int | None = None
    finalists: int | None = None
    parameters: int | None = None
    epochs: int | None = None
    seeds: int | None = None
    search_rate: float = 0.02
    rates: tuple[float, ...] = (0.005, 0.01, 0.03, 0.06)
    steps: int = 20
    seed: int = 0


QUICK = {
    "children": 40, "search_symbols": 90_000, "search_parameters": 20_000, "finalists": 2,
    "parameters": 30_000, "epochs": 1, "seeds": 5,
}  # fmt: skip
FULL = {
    "children": 400, "search_symbols": 200_000, "search_parameters": 40_000, "finalists": 4,
    "parameters": 200_000, "epochs": 4, "seeds": 5,
}  # fmt: skip


class Watched(Evaluator):
    """An evaluator that shows what it is asked, and keeps it.

    Attributes:
        children: the cells' canonical strings and rewards, in the order in which they were asked.
    """

    def __init__(self, evaluator: Evaluator, update: Callable[[int, str], None]) -> None:
        self.name, self.space = evaluator.name, evaluator.space
        self.children: list[tuple[str, float]] = []
        self._evaluator, self._update = evaluator, update

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        result = self._evaluator.evaluate(tokens, seeds)
        names = [self.space.canonical(row) for row in tokens]
        self.children += zip(names, result.reward.tolist(), strict=True)
        best = max(reward for _, reward in self.children)
        self._update(len(self.children), f"best reward {best:.3f}")
        return result

    def close(self) -> None:
        self._evaluator.close()


class Search(NamedTuple):
    """What one search did.

    Attributes:
        name: of the searcher.
        finalists: the canonical strings of its best cells, best first.
        perplexities: of its children in their order, on validation data; infinite where a child
            failed.
    """

    name: str
    finalists: list[str]
    perplexities: np.ndarray


def search_cells(name: str, evaluator: LanguageModelEvaluator, config: Config) -> Search:
    """Let one searcher train its children."""
    budget = config.children or 1
    rng = np.random.default_rng([config.seed, *name.encode()])
    with progress_bar(name, steps=budget) as update:
        watched = Watched(evaluator, update)
        search(SEARCHERS[name](), watched, rng, budget_evaluations=budget, free_duplicates=True)
    trained = [child for child in watched.children if child[1] > 0]
    best = sorted(trained, key=lambda child: -child[1])[: config.finalists]
    rewards = np.array([reward for _, reward in watched.children])
    with np.errstate(divide="ignore"):
        perplexities = np.sqrt(evaluator.constant / rewards)
    return Search(name, [cell for cell, _ in best], perplexities)


class Finals:
    """Models trained at full length: each with its learning rate, and with any seed."""

    def __init__(
        self, space: RecurrentSpace, text: Text, config: Config, cache: ResultCache
    ) -> None:
        self.space, self.text, self.config, self.cache = space, text, config, cache

    def train(self, model: str, rate: float, seed: int) -> LanguageRecord:
        """Train a baseline by its name or an architecture by its string."""
        settings = LanguageSettings(
            parameters=self.config.parameters,
            epochs=self.config.epochs or 1,
            learning_rate=rate,
            steps=self.config.steps,
        )
        evaluator = LanguageModelEvaluator(
            self.space, self.text, settings, cache=self.cache, seed=seed
        )
        if model in BASELINES:
            return evaluator.fit(model, baseline(model))
        return evaluator.record(self.space.from_string(model))

    def choose(self, models: list[str]) -> tuple[str, float]:
        """The model and learning rate with the lowest validation perplexity for seed 0."""
        pairs = [(model, rate) for model in models for rate in self.config.rates]
        return min(pairs, key=lambda pair: _validation(self.train(pair[0], pair[1], 0)))

    def row(self, name: str, models: list[str]) -> dict[str, Any]:
        """The best of ``models`` with seeds that had no part in choosing it."""
        model, rate = self.choose(models)
        seeds = range(1, 1 + (self.config.seeds or 1))
        records = [self.train(model, rate, seed) for seed in seeds]
        return {
            "name": name, "model": model, "learning_rate": rate,
            "records": [dataclasses.asdict(record) for record in records],
        }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, best validation perplexity first."""
    lines = [
        "| cell | parameters | width | learning rate | validation perplexity | test perplexity "
        "| seconds |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in sorted(rows, key=lambda row: _perplexities(row, "validation").mean()):
        cells = [_interval(_perplexities(row, part)) for part in ("validation", "test")]
        first = row["records"][0]
        seconds = np.mean([record["seconds"] for record in row["records"]])
        lines.append(
            f"| {row['name']} | {first['parameters']:,} | {first['width']} "
            f"| {row['learning_rate']:g} | {cells[0]} | {cells[1]} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def search_table(searches: list[Search]) -> str:
    """What the children of the searches were worth, in Markdown."""
    lines = [
        "| search | children | failed | median validation perplexity, first quarter | last quarter "
        "| best child |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, _, perplexities in searches:
        quarter = -(-len(perplexities) // 4)
        first, last = np.median(perplexities[:quarter]), np.median(perplexities[-quarter:])
        lines.append(
            f"| {name} | {len(perplexities)} | {np.isinf(perplexities).sum()} | {first:.2f} "
            f"| {last:.2f} | {perplexities.min():.2f} |"
        )
    return "\n".join(lines)


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """Each found cell against the random search's, the GRU and the LSTM."""
    by_name = {row["name"]: row for row in rows}
    lines = []
    for name, row in by_name.items():
        for other in (f"found by {RANDOM}", "GRU", "LSTM"):
            if not name.startswith("found by") or name == other or other not in by_name:
                continue
            values = _perplexities(row, "test") - _perplexities(by_name[other], "test")
            if not np.isfinite(values).all():
                continue
            difference = estimate(values)
            verdict = "not told apart"
            if difference.low > 0 or difference.high < 0:
                verdict = "worse" if difference.low > 0 else "better"
            lines.append(f"{name}, against {other}: {_written(difference, '+')}, {verdict}")
    return lines


def _validation(record: LanguageRecord) -> float:
    return float("inf") if record.validation_perplexity is None else record.validation_perplexity


def _perplexities(row: Mapping[str, Any], part: str) -> np.ndarray:
    values = [record[f"{part}_perplexity"] for record in row["records"]]
    return np.array([np.inf if value is None else value for value in values])


def _interval(values: np.ndarray) -> str:
    if np.isfinite(values).all():
        return _written(estimate(values))
    return f"{np.isinf(values).sum()} of {len(values)} failed"


def _written(value: Estimate, sign: str = "") -> str:
    return f"{value.value:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"


def main(config: Config) -> list[dict[str, Any]]:
    """Search, train, print; write results.json and table.md."""
    defaults = FULL if config.full else QUICK
    missing: dict[str, Any] = {
        name: value for name, value in defaults.items() if getattr(config, name) is None
    }
    config = dataclasses.replace(config, **missing)
    make_space, published, published_cell = SPACES[check_choice("space", config.space, SPACES)]
    for name in config.searchers:
        check_choice("searchers", name, SEARCHERS)
    space = make_space()
    if config.data is not None and config.data.is_file():
        text = load_text(config.data, config.level)
    else:
        text = load_ptb(config.data, config.level)
    cache = ResultCache(config.out / "cache.db")
    children = LanguageModelEvaluator(
        space,
        text,
        LanguageSettings(
            parameters=config.search_parameters,
            max_symbols=config.search_symbols,
            max_evaluation_symbols=SEARCH_EVALUATION,
            learning_rate=config.search_rate,
            steps=config.steps,
        ),
        cache=cache,
        seed=config.seed,
    )
    searches = [search_cells(name, children, config) for name in config.searchers]
    models: dict[str, list[str]] = {kind.upper(): [kind] for kind in BASELINES}
    models[published] = [published_cell]
    models |= {f"found by {found.name}": found.finalists for found in searches}
    finals = Finals(space, text, config, cache)
    rows = []
    with progress_bar("final training", steps=len(models)) as update:
        for name, candidates in models.items():
            if candidates:
                rows.append(finals.row(name, candidates))
            update(len(rows), name)
    report(config, searches, rows)
    return rows


def report(config: Config, searches: list[Search], rows: list[dict[str, Any]]) -> None:
    """Print; write results.json and table.md."""
    tables = "\n\n".join([*([search_table(searches)] if searches else []), table(rows)])
    commit, dirty = git_state()
    content = {
        "config": {name: str(value) for name, value in vars(config).items()},
        "command": command_line(sys.argv), "machine": machine(), "versions": versions(),
        "git_commit": commit, "git_dirty": dirty,
        "searches": {found.name: found.perplexities.tolist() for found in searches},
        "rows": rows,
    }  # fmt: skip
    write_atomically(config.out / "results.json", json.dumps(content, indent=1).encode())
    write_atomically(config.out / "table.md", (tables + "\n").encode())
    print(tables)
    target = config.parameters or 1
    off = max(abs(row["records"][0]["parameters"] / target - 1) for row in rows)
    print(
        f"\n[95 % interval of the mean over {config.seeds} seeds]; parameters within {off:.1%} of "
        f"{target:,}; epochs: {config.epochs}. Differences of test perplexity:"
    )
    print("\n".join(verdicts(rows)))
    for row in rows:
        if row["model"] not in BASELINES:
            print(f"{row['name']}: {row['model']}")
    print(f"Written to {config.out}.")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
