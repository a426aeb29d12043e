"""Click prediction from won auctions: the biased model, and weights that undo the selection.

    python experiments/unbiased_learning.py                          within two minutes
    python experiments/unbiased_learning.py --seeds 0 --auctions 5000  a first look

Nine simulated campaigns bid as an earlier campaign did; a linear model of clicks learns from what
was won, with weights 1 / w(b), and is judged on all impressions by its expected AUC. UOMP counts
observed prices, KMMP is Kaplan-Meier (Zhang et al. 2016), by exchange as well; the true w(b) and
training on all impressions are oracles. The published table is of a real company, whose data are
not public: its campaigns are others, and stand beside ours for the pattern only.

A second table has rivals bid more for the users whom the earlier campaign wanted, as well. Then
winning depends on more than the bid, and weights 1 / w(b) are wrong.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from sklearn.linear_model import LogisticRegression

from metagym.baselines.transfer.unbiased import UnbiasedClicks
from metagym.evaluation.statistics import estimate, paired_difference
from metagym.files import write_atomically, write_figure
from metagym.tasks.auction import CAMPAIGNS, Campaign, expected_auc, make_market

BIASED, KMMP, TRUE, ALL = "biased", "KMMP", "true w", "all impressions"
# label: (weights, a curve for each exchange)
METHODS: dict[str, tuple[str, bool]] = {
    BIASED: ("none", False),
    "UOMP": ("observed", False),
    KMMP: ("kaplan_meier", False),
    "KMMP by exchange": ("kaplan_meier", True),
    TRUE: ("known", False),
}
LABELS = (*METHODS, ALL)
# AUC in % of the biased model and of KMMP, campaigns c1 to c9 and all (Zhang et al. 2016).
PUBLISHED = {
    "c1": (63.78, 64.12), "c2": (87.45, 88.58), "c3": (69.73, 75.52), "c4": (88.82, 89.55),
    "c5": (69.71, 72.29), "c6": (89.33, 90.70), "c7": (77.76, 78.92), "c8": (74.57, 76.98),
    "c9": (71.04, 73.12), "all": (73.48, 76.45),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What to run.

    Args:
        out: folder for results.json, table.md and unbiased_learning.png.
        seeds: of users, rivals and auctions.
        auctions: that a campaign learns from; as many are the test.
        dependences: of market prices on what the earlier campaign wanted, for the second table.
    """

    out: Path = Path("results/unbiased_learning")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    auctions: int = 20_000
    dependences: tuple[float, ...] = (0.5, 1.0)


@dataclass(frozen=True)
class Scores:
    """AUC in % of one setting of all campaigns.

    Attributes:
        auc: [methods, campaigns, seeds].
        won: share of auctions won [campaigns, seeds].
    """

    auc: np.ndarray
    won: np.ndarray

    def of(self, label: str) -> np.ndarray:
        """[campaigns, seeds]."""
        found: np.ndarray = self.auc[LABELS.index(label)]
        return found


def main(config: Config) -> dict[float, Scores]:
    """Run what is missing, print the tables, write them, results.json and the figure."""
    results = _known(config) or {
        dependence: _scores(dependence, config) for dependence in (0.0, *config.dependences)
    }
    text = "\n\n".join([_table(results[0.0]), _dependence_table(results)]) + "\n"
    print(text)
    content = {
        "config": _settings(config),
        "results": {
            str(dependence): {"auc": scores.auc.tolist(), "won": scores.won.tolist()}
            for dependence, scores in results.items()
        },
    }
    write_atomically(config.out / "results.json", (json.dumps(content) + "\n").encode())
    write_atomically(config.out / "table.md", text.encode())
    save_figure(results, config.out / "unbiased_learning.png")
    print(f"Written to {config.out}.")
    return results


def _settings(config: Config) -> dict[str, Any]:
    """What decides about the results."""
    return {
        "seeds": list(config.seeds), "auctions": config.auctions,
        "dependences": list(config.dependences), "labels": list(LABELS),
        "campaigns": [dataclasses.asdict(campaign) for campaign in CAMPAIGNS],
    }  # fmt: skip


def _known(config: Config) -> dict[float, Scores] | None:
    """Results of an earlier run of the same settings."""
    path = config.out / "results.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    if content["config"] != _settings(config):
        return None
    return {
        float(dependence): Scores(np.array(found["auc"]), np.array(found["won"]))
        for dependence, found in content["results"].items()
    }


def _scores(dependence: float, config: Config) -> Scores:
    runs = []
    for campaign in CAMPAIGNS:
        changed = dataclasses.replace(campaign, dependence=dependence)
        runs.append([_run(changed, seed, config.auctions) for seed in config.seeds])
    found = np.array(runs).transpose(2, 0, 1)  # [methods and the share won, campaigns, seeds]
    print(f"Prices that depend on users by {dependence:g}: done.", flush=True)
    return Scores(found[:-1], found[-1])


def _run(campaign: Campaign, seed: int, count: int) -> list[float]:
    """AUC in % of every method, and the share of auctions won."""
    rng = np.random.default_rng([seed, [x.name for x in CAMPAIGNS].index(campaign.name)])
    market = make_market(campaign, rng)
    seen, test = market.sample(count, rng), market.sample(count, rng)

    def auc(model: Any) -> float:
        return 100.0 * expected_auc(model.decision_function(test.x), test.click_probability)

    found = []
    for weights, by_exchange in METHODS.values():
        model = UnbiasedClicks(LogisticRegression(max_iter=1000), weights=weights).fit(
            seen.x, seen.seen_clicks, bids=seen.bids, prices=seen.seen_prices, won=seen.won,
            groups=seen.exchange if by_exchange else None, win_probability=seen.win_probability,
        )  # fmt: skip
        found.append(auc(model.estimator_))
    found.append(auc(LogisticRegression(max_iter=1000).fit(seen.x, seen.clicks)))
    return [*found, float(seen.won.mean())]


# -- what is shown -----------------------------------------------------------------------------


def _table(scores: Scores) -> str:
    """Markdown: AUC by campaign, the gain of KMMP, and the published ones beside it."""
    lines = ["| AUC, % | won | " + " | ".join(LABELS) + " | KMMP - biased | published, others |",
             "|:--" * (len(LABELS) + 4) + "|"]  # fmt: skip
    for i, campaign in enumerate(CAMPAIGNS):
        cells = [f"{scores.of(label)[i].mean():.2f}" for label in LABELS]
        lines.append(
            f"| {campaign.name} | {100 * scores.won[i].mean():.0f} % | {' | '.join(cells)} | "
            f"{_difference(scores.of(KMMP)[i], scores.of(BIASED)[i])} | {_published(f'c{i + 1}')} |"
        )
    cells = [f"{scores.of(label).mean():.2f}" for label in LABELS]
    lines.append(
        f"| all | {100 * scores.won.mean():.0f} % | {' | '.join(cells)} | "
        f"{_difference(scores.of(KMMP), scores.of(BIASED))} | {_published('all')} |"
    )
    lines += ["", "| over all campaigns and seeds | minus biased | minus all impressions |",
              "|:--|:--|:--|"]  # fmt: skip
    for label in LABELS:
        cells = [
            "" if label == other else _difference(scores.of(label), scores.of(other))
            for other in (BIASED, ALL)
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _published(name: str) -> str:
    biased, corrected = PUBLISHED[name]
    return f"{name}: {biased:.2f} → {corrected:.2f} ({corrected - biased:+.2f})"


def _difference(scores: np.ndarray, reference: np.ndarray) -> str:
    found = paired_difference(scores.ravel(), reference.ravel())
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _dependence_table(results: dict[float, Scores]) -> str:
    """Markdown: gains over the biased model where winning depends on more than the bid."""
    lines = ["| prices depend on users by | biased | "
             + " | ".join(f"{label} - biased" for label in LABELS[1:]) + " |",
             "|:--" * (len(LABELS) + 1) + "|"]  # fmt: skip
    for dependence, scores in results.items():
        cells = [_difference(scores.of(label), scores.of(BIASED)) for label in LABELS[1:]]
        lines.append(f"| {dependence:g} | {scores.of(BIASED).mean():.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save_figure(results: dict[float, Scores], path: Path) -> None:
    """Gains over the biased model, by campaign and by dependence of prices.

    Args:
        results: by dependence.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1), sharey=True)
    shown = LABELS[1:]
    for number, label in enumerate(shown):
        shift = (number - (len(shown) - 1) / 2) * 0.15
        style: dict[str, Any] = {
            "color": "k" if label == ALL else f"C{number}", "markersize": 4, "capsize": 2,
        }  # fmt: skip
        main_scores = results[0.0]
        gains = [estimate(row) for row in main_scores.of(label) - main_scores.of(BIASED)]
        _points(left, np.arange(len(gains)) + shift, gains, fmt="o", label=label, **style)
        means = [estimate((x.of(label) - x.of(BIASED)).ravel()) for x in results.values()]
        _points(right, np.array(list(results)) + 0.1 * shift, means, fmt="o-", **style)
    left.set_xticks(range(len(CAMPAIGNS)), [campaign.name for campaign in CAMPAIGNS])
    left.set(xlabel="simulated campaign", ylabel="AUC minus the biased model's, points")
    right.legend(*left.get_legend_handles_labels(), fontsize="small", loc="upper right")
    right.set(xlabel="prices depend on the users whom\nthe earlier campaign wanted, by",
              title="all campaigns")  # fmt: skip
    left.set_title("prices depend on the exchange only")
    for axis in (left, right):
        axis.axhline(0.0, color="grey", linewidth=0.8)
    write_figure(path, figure, dpi=120)


def _points(axis: Any, x: np.ndarray, found: list[Any], **style: Any) -> None:
    values = np.array([e.value for e in found])
    ends = np.array([[e.value - e.low, e.high - e.value] for e in found]).T
    axis.errorbar(x, values, np.maximum(ends, 0.0), **style)


if __name__ == "__main__":
    start = time.perf_counter()
    main(tyro.cli(Config, description=__doc__))
    print(f"{time.perf_counter() - start:.0f} s in all.")
