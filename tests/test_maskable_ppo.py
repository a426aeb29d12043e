"""experiments/maskable_ppo.py in miniature: its numbers are those of the searches."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest

from metagym.architectures.digits201 import Digits201
from metagym.errors import InvalidArgumentError

FILE = Path(__file__).parent.parent / "experiments" / "maskable_ppo.py"


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("METAGYM_DATA", raising=False)
    spec = importlib.util.spec_from_file_location("experiments_maskable_ppo", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def needs_sb3_contrib() -> None:
    pytest.importorskip("sb3_contrib", reason="sb3-contrib is not installed")


def test_the_table_is_made_of_the_results(
    experiment: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_sb3_contrib()
    monkeypatch.setattr(experiment, "WINDOW", 4)
    experiment.main(experiment.Config(seeds=2, budgets=(10, 20)))
    printed = capsys.readouterr().out
    assert "Without NAS-Bench-201: " in printed and "METAGYM_DATA" in printed
    folder = Path("results/maskable_ppo")
    table = (folder / "table.md").read_text()
    assert all(line in printed for line in table.splitlines())
    assert len(table.splitlines()) == 2 + 2 * (3 + 2)
    results = json.loads((folder / "results.json").read_text())["results"]["digits201"]
    assert set(results) == {"random search", "controller", "MaskablePPO"}
    for method, runs in results.items():
        assert [len(run["validation"]) for run in runs] == [20, 20]
        assert runs[0]["validation"] != runs[1]["validation"]
        for budget in (10, 20):
            line = next(x for x in table.splitlines() if f"| {budget} | {method} |" in x)
            last = [100 * np.mean(run["validation"][budget - 4 : budget]) for run in runs]
            best = [run["test"][int(np.argmax(run["validation"][:budget]))] for run in runs]
            cells = line.split(" | ")
            assert cells[3] == f"{np.mean(last):.2f} [{min(last):.2f}, {max(last):.2f}]"
            assert cells[5].startswith(f"{100 * np.mean(best):.2f} [")


def test_the_same_seed_is_the_same_search(experiment: ModuleType) -> None:
    needs_sb3_contrib()
    for search in experiment.METHODS.values():
        first, again, other = (
            experiment.run(search, Digits201(), seed, 10)["validation"] for seed in (3, 3, 4)
        )
        assert first == again != other
    assert "MaskablePPOComparison-v0" not in gym.registry


def test_ppo_learns(experiment: ModuleType) -> None:
    needs_sb3_contrib()
    found = experiment.run(experiment.search_with_ppo, Digits201(), 5, 200)["validation"]
    chance = experiment.run(experiment.search_at_random, Digits201(), 5, 200)["validation"]
    assert np.mean(found[-50:]) > np.mean(chance) + 0.1


def test_tuning_shows_validation_alone(
    experiment: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_sb3_contrib()
    monkeypatch.setattr(experiment, "TUNING_BUDGETS", (10, 20))
    monkeypatch.setattr(experiment, "WINDOW", 10)
    ppo = {"MaskablePPO": experiment.SETTINGS["MaskablePPO"][:2]}
    monkeypatch.setattr(experiment, "SETTINGS", ppo)
    experiment.main(experiment.Config(tune=True))
    printed = capsys.readouterr().out
    assert printed.count("PPOSettings(") == 2 and "after 10" in printed and "after 20" in printed
    runs = [
        experiment.run(experiment.partial(experiment.search_with_ppo, settings=settings),
                       Digits201(), seed, 20)
        for settings in ppo["MaskablePPO"] for seed in (100, 101)
    ]  # fmt: skip
    for pair in (runs[:2], runs[2:]):
        mean = 100 * np.mean([run["validation"][:10] for run in pair])
        assert f"{mean:.2f} after 10," in printed


def test_without_sb3_contrib_it_says_how_to_get_it(
    experiment: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    experiment.main(experiment.Config())
    assert "pip install -e '.[sb3-contrib]'" in capsys.readouterr().out


def test_budgets_are_whole_batches(experiment: ModuleType) -> None:
    with pytest.raises(InvalidArgumentError, match="multiple of 10"):
        experiment.Config(budgets=(500, 505))
    with pytest.raises(InvalidArgumentError, match="budgets=0"):
        experiment.Config(budgets=(0,))
