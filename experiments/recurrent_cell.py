"""Recurrent cells found by search, against the plain RNN, the GRU and the LSTM.

    python experiments/recurrent_cell.py            # on one core, within 20 minutes
    python experiments/recurrent_cell.py --full     # more children, larger models, more epochs

Character-level language models of the Penn Treebank, of which METAGYM_DATA holds the valid and the
test text: trained on the valid text, validated on the first half of the test text, tested on the
second, so that no number compares with the literature's. Every model has the same number of
parameters, for which its width is solved, and reads the same text for the same number of epochs.

Each search trains its children on less text, with one seed, and sees their validation perplexity
alone. Its best few are trained again as long as everybody is, and the one with the lowest
validation perplexity goes into the table, trained anew with other seeds.

Everything trained is kept in cache.db in the output folder: a run that was interrupted goes on
where it stopped, and prints the same table.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from metagym.architectures.cache import ResultCache
from metagym.architectures.enas_rnn import ENAS_CELL, ENASRecurrent
from metagym.architectures.evaluator import Evaluation, Evaluator
from metagym.architectures.language import LanguageModelEvaluator, LanguageRecord, LanguageSettings
from metagym.architectures.recurrent import RecurrentSpace
from metagym.architectures.recurrent_modules import BASELINES, baseline
from metagym.architectures.recurrent_tree import NAS_CELL, RecurrentTree
from metagym.architectures.space import SearchSpace
from metagym.evaluation.statistics import estimate
from metagym.files import write_atomically
from metagym.monitoring import progress_bar
from metagym.tasks import Text, load_ptb, load_text

Found = list[tuple[np.ndarray, float]]  # architectures [length] and their rewards, in order
Searcher = Callable[[SearchSpace, Evaluator, int, np.random.Generator], Found]
SEARCH_EVALUATION = 50_000  # symbols of the validation text that score a child of a search
SPACES: dict[str, tuple[Callable[[], RecurrentSpace], str, str]] = {
    "tree": (RecurrentTree, "published cell (Zoph & Le)", NAS_CELL),
    "enas": (ENASRecurrent, "published cell (ENAS)", ENAS_CELL),
}


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
        children: of each search.
        search_symbols: of the training text that a child reads.
        search_parameters: of a child.
        finalists: of each search, trained as long as everybody.
        parameters: of each model in the table.
        epochs: of each model in the table.
        seeds: of each model in the table.
        learning_rate: of Adam in the table; None in the long version: for each model that of
            ``rates`` which gives the lowest validation perplexity, with a seed of its own.
        rates: to choose from.
        seed: of the searches.
    """

    full: bool = False
    out: Path = Path("results/recurrent_cell")
    data: Path | None = None
    space: str = "tree"
    level: str = "character"
    children: int | None = None
    search_symbols: int | None = None
    search_parameters: int | None = None
    finalists: int | None = None
    parameters: int | None = None
    epochs: int | None = None
    seeds: int | None = None
    learning_rate: float | None = None
    rates: tuple[float, ...] = (0.004, 0.01)
    seed: int = 0


QUICK = {
    "children": 40, "search_symbols": 150_000, "search_parameters": 20_000, "finalists": 2,
    "parameters": 100_000, "epochs": 1, "seeds": 3, "learning_rate": 0.01,
}  # fmt: skip
FULL = {
    "children": 400, "search_symbols": 200_000, "search_parameters": 40_000, "finalists": 4,
    "parameters": 200_000, "epochs": 4, "seeds": 5,
}  # fmt: skip


def random_search(
    space: SearchSpace, evaluator: Evaluator, budget: int, rng: np.random.Generator
) -> Found:
    """``budget`` architectures, each uniform."""
    found = []
    for _ in range(budget):
        tokens = space.sample(rng, 1)
        found.append((tokens[0], float(evaluator.evaluate(tokens).reward[0])))
    return found


def evolution(
    space: SearchSpace,
    evaluator: Evaluator,
    budget: int,
    rng: np.random.Generator,
    population: int = 10,
    sample: int = 3,
) -> Found:
    """Regularised evolution (Real et al., 2019): the oldest dies, the best of a few has a child."""
    found = random_search(space, evaluator, min(population, budget), rng)
    while len(found) < budget:
        living = found[-population:]
        chosen = rng.choice(len(living), size=min(sample, len(living)), replace=False)
        parent = max((living[i] for i in chosen), key=lambda pair: pair[1])[0]
        child = space.mutate(parent[None], rng)
        found.append((child[0], float(evaluator.evaluate(child).reward[0])))
    return found


SEARCHERS: dict[str, Searcher] = {"random search": random_search, "evolution": evolution}


class Progress(Evaluator):
    """An evaluator that shows what it is asked."""

    def __init__(self, evaluator: Evaluator, update: Callable[[int, str], None]) -> None:
        self.name, self.space = evaluator.name, evaluator.space
        self._evaluator, self._update = evaluator, update
        self._done, self._best = 0, 0.0

    def evaluate(self, tokens: np.ndarray, seeds: np.ndarray | None = None) -> Evaluation:
        result = self._evaluator.evaluate(tokens, seeds)
        self._done += len(tokens)
        self._best = max(self._best, *result.reward)
        self._update(self._done, f"best reward {self._best:.3f}")
        return result


def search(
    name: str, searcher: Searcher, evaluator: LanguageModelEvaluator, config: Config
) -> list[str]:
    """The canonical strings of the best architectures that ``searcher`` finds, best first."""
    budget = config.children or 0
    rng = np.random.default_rng([config.seed, *name.encode()])
    with progress_bar(name, steps=budget) as update:
        found = searcher(evaluator.space, Progress(evaluator, update), budget, rng)
    best: dict[str, None] = {}
    for tokens, reward in sorted(found, key=lambda pair: -pair[1]):
        if reward > 0:
            best[evaluator.space.canonical(tokens)] = None
    return list(best)[: config.finalists]


class Finals:
    """Models trained at full length: each with its learning rate, and with any seed."""

    def __init__(
        self, space: RecurrentSpace, text: Text, config: Config, cache: ResultCache
    ) -> None:
        self.space, self.text, self.config, self.cache = space, text, config, cache

    def train(self, model: str, rate: float, seed: int) -> LanguageRecord:
        """Train a baseline by its name or an architecture by its string."""
        settings = LanguageSettings(
            parameters=self.config.parameters, epochs=self.config.epochs or 1, learning_rate=rate
        )
        evaluator = LanguageModelEvaluator(
            self.space, self.text, settings, cache=self.cache, seed=seed
        )
        if model in BASELINES:
            return evaluator.fit(model, baseline(model))
        return evaluator.record(self.space.from_string(model))

    def choose(self, models: list[str]) -> tuple[str, float]:
        """The model and learning rate with the lowest validation perplexity for seed 0."""
        rates = self.config.rates
        if self.config.learning_rate is not None:
            rates = (self.config.learning_rate,)
        pairs = [(model, rate) for model in models for rate in rates]
        if len(pairs) == 1:
            return pairs[0]
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


def _validation(record: LanguageRecord) -> float:
    return float("inf") if record.validation_perplexity is None else record.validation_perplexity


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, best validation perplexity first."""
    lines = [
        "| cell | parameters | width | learning rate | validation perplexity | test perplexity "
        "| seconds |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]

    def perplexities(row: Mapping[str, Any], part: str) -> np.ndarray:
        values = [record[f"{part}_perplexity"] for record in row["records"]]
        return np.array([np.inf if value is None else value for value in values])

    for row in sorted(rows, key=lambda row: perplexities(row, "validation").mean()):
        cells = []
        for part in ("validation", "test"):
            values = perplexities(row, part)
            if np.isfinite(values).all():
                mean = estimate(values)
                cells.append(f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]")
            else:
                cells.append(f"{np.isinf(values).sum()} of {len(values)} failed")
        first = row["records"][0]
        seconds = np.mean([record["seconds"] for record in row["records"]])
        lines.append(
            f"| {row['name']} | {first['parameters']:,} | {first['width']} "
            f"| {row['learning_rate']:g} | {cells[0]} | {cells[1]} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def main(config: Config, searchers: Mapping[str, Searcher] = SEARCHERS) -> list[dict[str, Any]]:
    """Search, train, print; write results.json and table.md.

    ``searchers`` are functions ``search(space, evaluator, budget, rng) -> [(tokens, reward)]``.
    """
    defaults = FULL if config.full else QUICK
    missing: dict[str, Any] = {
        name: value for name, value in defaults.items() if getattr(config, name) is None
    }
    config = dataclasses.replace(config, **missing)
    make_space, published, published_cell = SPACES[config.space]
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
        ),
        cache=cache,
        seed=config.seed,
    )
    models: dict[str, list[str]] = {kind.upper(): [kind] for kind in BASELINES}
    models[published] = [published_cell]
    for name, searcher in searchers.items():
        models[f"found by {name}"] = search(name, searcher, children, config)
    finals = Finals(space, text, config, cache)
    rows = []
    with progress_bar("final training", steps=len(models)) as update:
        for name, candidates in models.items():
            if candidates:
                rows.append(finals.row(name, candidates))
            update(len(rows), name)
    content = {"config": {k: str(v) for k, v in vars(config).items()}, "rows": rows}
    write_atomically(config.out / "results.json", json.dumps(content, indent=1).encode())
    printed = table(rows)
    write_atomically(config.out / "table.md", (printed + "\n").encode())
    print(printed)
    target = config.parameters or 1
    off = max(abs(row["records"][0]["parameters"] / target - 1) for row in rows)
    print(
        f"[95 % interval of the mean over {config.seeds} seeds]; parameters within {off:.1%} of "
        f"{target:,}; {config.epochs} epochs"
    )
    for row in rows:
        if row["model"] not in BASELINES:
            print(f"{row['name']}: {row['model']}")
    print(f"Written to {config.out}.")
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
