"""Feature transfer on Office + Caltech, SURF features: all twelve pairs of four domains, by 1-NN.

    python experiments/transfer_office.py               minutes; needs METAGYM_DATA or --data
    python experiments/transfer_office.py --draws 0     all data only

Two protocols. "All data": the whole source is labelled, the whole target is tested on; nothing is
random, and there is one number. "Draws": twenty labelled examples of each class of the source
(eight of dslr, which has no more), the whole target, as since Gong et al. (2012); intervals are
over draws, and pre-processing sees no other examples of the source. No method sees a label of the
target; TCA has the settings that give the published C→A and A→C.

Pre-processing decides more than the method does, so that it is part of a row's name:

    z       each example divided by its sum, then every feature standardised in each domain
    unit    z, then each example divided by its length

The numbers in print come out of these readings:

    1-NN            z.
    PCA, d = 100    z; PCA of both domains together.
    TCA, d = 100    z; linear kernel, μ = 1, M of norm 1, columns of W of unit length. The means of
                    the domains agree after z, so that there is no discrepancy left to reduce, and
                    μ does not matter: this is PCA with coordinates multiplied by singular values.
    TCA, d = 20     unit; the rest as above.
    PCA, d = 20     unit: the control that papers leave out.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Normalizer

from kept_runs import refuse_other
from metagym.baselines.transfer.adapted import DomainAdapted
from metagym.baselines.transfer.alignment import CORAL, DomainStandardizer
from metagym.baselines.transfer.features import Chain
from metagym.baselines.transfer.subspace import TCA
from metagym.errors import check_choice
from metagym.evaluation.statistics import estimate, paired_difference
from metagym.files import write_atomically
from metagym.tasks.office_caltech import DOMAINS, Domain, load_office_caltech

PAIRS = tuple(itertools.permutations(DOMAINS, 2))
LABELLED = {"dslr": 8}  # of each class in a draw; other domains have LABELLED_ELSEWHERE
LABELLED_ELSEWHERE = 20
Z = (Normalizer("l1"), DomainStandardizer())
UNIT = (*Z, Normalizer("l2"))
CONTROL = "PCA, d = 20, unit"


def _pca(count: int) -> PCA:
    return PCA(count, svd_solver="full")


METHODS: dict[str, tuple[Any, ...]] = {
    "1-NN, z": Z,
    "1-NN, unit": UNIT,
    "PCA, d = 100, z": (*Z, _pca(100)),
    "PCA, d = 20, z": (*Z, _pca(20)),
    CONTROL: (*UNIT, _pca(20)),
    "TCA linear, d = 100, z": (*Z, TCA(100)),
    "TCA linear, d = 20, unit": (*UNIT, TCA(20)),
    "TCA primal, d = 20, unit": (*UNIT, TCA(20, kernel="primal")),
    "TCA rbf, d = 20, unit": (*UNIT, TCA(20, kernel="rbf")),
    "CORAL, z": (*Z, CORAL()),
    "CORAL, unit": (*Z, CORAL(), Normalizer("l2")),
}
# In print: caltech -> amazon and amazon -> caltech, in per cent.
PUBLISHED = {
    "1-NN, z": (23.70, 26.00),
    "PCA, d = 100, z": (36.95, 34.73),
    "TCA linear, d = 100, z": (38.20, 37.76),
    "TCA linear, d = 20, unit": (45.82, 40.07),
    CONTROL: (45.82, 39.54),
}


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for results.json and table.md; what is in there is not run again.
        data: the folder of the files; None: that of METAGYM_DATA.
        methods: a selection; all by default.
        draws: of labelled source examples; draw i is the same for all methods and targets.
    """

    out: Path = Path("results/transfer_office")
    data: Path | None = None
    methods: tuple[str, ...] = tuple(METHODS)
    draws: int = 5


# {method: {pair: {"all": accuracy, "draws": [accuracy of draw 0, ...]}}}
Results = dict[str, dict[str, dict[str, Any]]]


def main(config: Config) -> Results:
    """Run what is missing, print the tables; write them and results.json."""
    methods = [check_choice("methods", name, METHODS) for name in config.methods]
    domains = load_office_caltech(config.data)
    path = config.out / "results.json"
    done: Results = {}
    if path.is_file():
        found = json.loads(path.read_text())
        done = found["results"]
        asked = {name: str(METHODS[name]) for name in methods if name in done}
        refuse_other(path, asked, found["methods"])
    for source, target in PAIRS:
        for name in methods:
            entry = done.setdefault(name, {}).setdefault(_pair(source, target), {"draws": []})
            if "all" not in entry:
                entry["all"] = accuracy(name, domains[source], domains[target])
            for draw in range(len(entry["draws"]), config.draws):
                labelled = drawn(source, domains[source], draw)
                entry["draws"].append(accuracy(name, labelled, domains[target]))
        write_atomically(path, (json.dumps(_content(config, done)) + "\n").encode())
        print(f"{_pair(source, target)} done.", flush=True)
    results = {name: done[name] for name in methods}
    parts = [_published(results), _all_data(results)]
    if config.draws > 0:
        parts += [_of_draws(results, config.draws), _differences(results, config.draws)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    print(text)
    write_atomically(config.out / "table.md", text.encode())
    print(f"Written to {config.out}.")
    return results


def accuracy(name: str, source: Domain, target: Domain) -> float:
    """In per cent, of 1-NN on the target, which was there in training without its labels."""
    model = DomainAdapted(Chain(METHODS[name]), KNeighborsClassifier(1))
    return 100.0 * model.fit(*source, Xt=target.features).score(*target)


def drawn(name: str, domain: Domain, draw: int) -> Domain:
    """The labelled examples of a draw, equally many of each class.

    Args:
        name: of the domain.
        domain: its examples.
        draw: the number of the draw.
    """
    rng = np.random.default_rng([draw, DOMAINS.index(name)])
    count = LABELLED.get(name, LABELLED_ELSEWHERE)
    rows = np.concatenate([
        rng.choice(np.flatnonzero(domain.labels == label), count, replace=False)
        for label in np.unique(domain.labels)
    ])  # fmt: skip
    return Domain(domain.features[rows], domain.labels[rows])


def _pair(source: str, target: str) -> str:
    return f"{source[0].upper()}→{target[0].upper()}"


def _content(config: Config, results: Results) -> dict[str, Any]:
    settings = {name: str(value) for name, value in dataclasses.asdict(config).items()}
    return {
        "config": settings, "methods": {name: str(METHODS[name]) for name in results},
        "results": results,
    }  # fmt: skip


# -- what is shown -----------------------------------------------------------------------------


def _published(results: Results) -> str:
    """Markdown: what is in print, and what comes out here."""
    lines = ["| 1-NN accuracy, all data, % | C→A in print | here | A→C in print | here | |",
             "|:--|:--|:--|:--|:--|:--|"]  # fmt: skip
    for name, printed in PUBLISHED.items():
        if name in results:
            here = [round(results[name][pair]["all"], 2) for pair in ("C→A", "A→C")]
            verdict = "exactly" if tuple(here) == printed else "not the same"
            cells = [f"{a:.2f} | {b:.2f}" for a, b in zip(printed, here, strict=True)]
            lines.append(f"| {name} | {' | '.join(cells)} | {verdict} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _table(title: str, rows: dict[str, list[str]]) -> str:
    pairs = [_pair(*pair) for pair in PAIRS]
    lines = [f"| {title} | {' | '.join(pairs)} | mean |", "|:--" * (len(pairs) + 2) + "|"]
    return "\n".join(lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()])


def _all_data(results: Results) -> str:
    rows = {}
    for name, pairs in results.items():
        values = [pairs[_pair(*pair)]["all"] for pair in PAIRS]
        rows[name] = [f"{value:.2f}" for value in (*values, np.mean(values))]
    return _table("all data, %", rows)


def _of_draws(results: Results, count: int) -> str:
    rows = {}
    for name in results:
        scores = _scores(results, name, count)
        found = [estimate(row) for row in (*scores, scores.mean(axis=0))]
        rows[name] = [f"{x.value:.1f} [{x.low:.1f}, {x.high:.1f}]" for x in found]
    return _table(f"{count} draws, % [95 % interval over draws]", rows)


def _differences(results: Results, count: int) -> str:
    """Markdown: the mean of all pairs less that of the control, draw by draw."""
    if CONTROL not in results:
        return ""
    control = _scores(results, CONTROL, count).mean(axis=0)
    lines = [f"| mean of all pairs, less that of {CONTROL} | points |", "|:--|:--|"]
    for name in results:
        if name != CONTROL:
            found = paired_difference(_scores(results, name, count).mean(axis=0), control)
            lines.append(f"| {name} | {found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}] |")
    return "\n".join(lines)


def _scores(results: Results, name: str, count: int) -> np.ndarray:
    """Of the draws, [pairs, draws]."""
    return np.array([results[name][_pair(*pair)]["draws"][:count] for pair in PAIRS])


if __name__ == "__main__":
    start = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - start:.0f} s in all.")
