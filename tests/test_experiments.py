"""The scripts of experiments/ run, in miniature; what they print is theirs."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from metagym.agents import rl2
from metagym.errors import CheckpointError, InvalidArgumentError
from metagym.evaluation.suites import make_suite
from metagym.leaderboard.run import run_suite

FOLDER = Path(__file__).parent.parent / "experiments"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"experiments_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)  # scripts import what they share from beside them


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = load("demo")
    demo.main(demo.Config(seconds=1.0, episodes=16, iterations=5))
    demo.main(demo.Config(seconds=1.0, episodes=16, iterations=5))  # a second run finds a free name
    for run in ("demo", "demo-2"):
        assert (tmp_path / "runs" / run / "demo.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "learned by PPO" in printed and "test accuracy" in printed


def test_quadratics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quadratics = load("quadratics")
    monkeypatch.setattr(quadratics, "tune", lambda *_, **__: {})
    monkeypatch.setattr(quadratics, "GAINS", np.array([0.0]))
    config = quadratics.Config(out=tmp_path, checkpoints=("quadratics",), episodes=64)
    quadratics.main(config)
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {"published", "100", "1000", "dim 30"}
    assert (tmp_path / "curves.png").is_file()
    assert "published -1.39" in capsys.readouterr().out


@pytest.fixture
def tiny_rl2(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = rl2.Config(num_envs=4, minibatch=4, epochs=1, width=8)
    monkeypatch.setattr(rl2, "recipe", lambda env_id: tiny)


def test_rl2_bandits(tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_rl2: None) -> None:
    bandits = load("rl2_bandits")
    config = bandits.Config(cells=("10,5",), out=tmp_path, seconds=0.1, trials=1000, tuning=200)
    bandits.main(config)
    table = (tmp_path / "table.md").read_text()
    assert "*ceiling (exact)* | 6.6600" in table
    assert all(f"| 10,5 | {name} |" in table for name in ("gittins", "ucb1", "rl2"))
    again = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*.json"))
    bandits.main(config)  # nothing is computed again
    assert (tmp_path / "table.md").read_text() == table
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")) == again


def test_rl2_mdps(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_rl2: None,
) -> None:
    mdps = load("rl2_mdps")
    monkeypatch.setattr(mdps, "AGENTS", {n: mdps.AGENTS[n] for n in ("psrl", "mdp_greedy")})
    config = mdps.Config(out=tmp_path, seconds=0.1, trials=40, tuning_trials=8)
    mdps.main(config)
    table = (tmp_path / "table.md").read_text()
    assert all(f"| 10 | {name} |" in table for name in ("psrl", "mdp_greedy", "rl2"))
    assert "SNAIL's normaliser" in table
    capsys.readouterr()
    mdps.main(config)
    assert (tmp_path / "table.md").read_text() == table
    assert "MetaTabularMDP-v0" not in capsys.readouterr().out  # which names what is computed


def test_rl2_mazes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_rl2: None,
) -> None:
    mazes = load("rl2_mazes")
    monkeypatch.setattr(mazes, "MAZES", 8)
    config = mazes.Config(quick=True, out=tmp_path, seconds=0.1)
    mazes.main(config)
    table = (tmp_path / "table.md").read_text()
    assert "| shortest_path (sees the maze) |" in table and "rl2 (trained on 5 × 5)" in table
    assert len(list(tmp_path.glob("*/*-n2.json"))) == 10
    capsys.readouterr()
    mazes.main(config)  # nothing is computed again
    assert capsys.readouterr().out == table


def test_recurrent_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recurrent_cell = load("recurrent_cell")
    path = tmp_path / "text.txt"
    path.write_text("\n".join(["abba" * 4, "baab" * 3] * 20))
    config = recurrent_cell.Config(
        out=tmp_path / "out", data=path, children=3, search_symbols=500, search_parameters=2000,
        finalists=2, parameters=3000, epochs=1, seeds=2, rates=(0.01, 0.02),
        searchers=("random search", "REINFORCE, ranks"),
    )  # fmt: skip
    rows = recurrent_cell.main(config)
    assert [row["name"] for row in rows[:3]] == ["RNN", "GRU", "LSTM"] and len(rows) == 6
    printed = capsys.readouterr().out
    assert "| random search | 3 | 0 |" in printed
    assert printed.count(", against found by random search: ") == 1
    assert recurrent_cell.main(config) == rows  # from the cache, seconds included
    assert capsys.readouterr().out == printed
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["rows"]) == 6
    assert {name: len(found) for name, found in results["searches"].items()} == dict.fromkeys(
        config.searchers, 3
    )


def test_recurrent_cell_keeps_a_searchs_best_and_says_who_is_better() -> None:
    recurrent_cell = load("recurrent_cell")
    space = recurrent_cell.RecurrentTree(2)

    class Counted(recurrent_cell.Evaluator):
        """A cell is worth how many of its tokens are 1; none is worth 0, which is a failure."""

        name, space, constant = "counted", recurrent_cell.RecurrentTree(2), 4.0

        def evaluate(self, tokens, seeds=None):  # type: ignore[no-untyped-def]
            worth = (tokens == 1).sum(axis=1).astype(float)
            return recurrent_cell.Evaluation(worth, worth, worth)

    config = recurrent_cell.Config(children=30, finalists=4)
    for name in recurrent_cell.SEARCHERS:
        found = recurrent_cell.search_cells(name, Counted(), config)
        worth = [(space.from_string(cell) == 1).sum() for cell in found.finalists]
        rewards = 4.0 / found.perplexities**2
        assert len(rewards) == 30 and len(set(found.finalists)) == 4
        assert worth == sorted(rewards, reverse=True)[:4]

    def row(name: str, *perplexities: float | None) -> dict[str, object]:
        return {"name": name, "records": [{"test_perplexity": value} for value in perplexities]}

    rows = [
        row("LSTM", 5.0, 5.1), row("found by random search", 4.0, 6.0),
        row("found by evolution", 3.5, 3.6), row("found by luck", None, 1.0),
    ]  # fmt: skip
    assert recurrent_cell.verdicts(rows) == [
        "found by random search, against LSTM: -0.050 [-1.000, +0.900], not told apart",
        "found by evolution, against found by random search: -1.450 [-2.400, -0.500], better",
        "found by evolution, against LSTM: -1.500 [-1.500, -1.500], better",
    ]


@pytest.mark.parametrize("name", ["digits201", "nasbench201"])
def test_searches_on_the_tables(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kwargs = {"folder": bench201()} if name == "nasbench201" else {}
    module = load(name)
    shared = sys.modules["tabular_search"]
    settings = dict(list(shared.SETTINGS.items())[3:5])  # one of each method
    monkeypatch.setattr(shared, "SETTINGS", settings)
    methods = ("random search", "randomised values", "- without sampling")
    module.main(module.Config(out=tmp_path, methods=methods, runs=8, **kwargs))
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [row["free_duplicates"] for row in rows] == [False] * 3 + [True] * 2
    validation = [np.mean(list(row["validation"].values())[-1]) for row in rows]
    assert validation[1] > validation[0] and validation[4] > validation[3]
    printed = capsys.readouterr().out
    assert printed.count("randomised values") == 2 and "wall seconds" in printed
    module.main(module.Config(tune=True, runs=2, **kwargs))
    printed = capsys.readouterr().out
    assert all(f"{name}: " in printed for name in settings) and "test" not in printed


def bench201() -> Path:
    """The folder of NAS-Bench-201's files."""
    folder = Path(os.environ.get("METAGYM_DATA", FOLDER.parent.parent / "shared" / "data"))
    if not (folder / "nasbench201").is_dir():
        pytest.skip(f"no NAS-Bench-201 files in {folder}; set METAGYM_DATA")
    return folder


def test_rl2_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tiny_rl2: None,
) -> None:  # fmt: skip
    rl2_search = load("rl2_search")
    monkeypatch.setattr(rl2_search, "BUDGETS", (300, 600))
    with_bench = len(list(FOLDER.parent.parent.glob("shared/data/nasbench201"))) == 1
    folder = bench201() if with_bench else tmp_path
    config = rl2_search.Config(folder=folder, out=tmp_path / "out", seconds=0.2, n=3, runs=6)
    rl2_search.main(config)
    printed = capsys.readouterr().out
    assert ("Without NAS-Bench-201" in printed) != with_bench
    assert "| RL² |" in printed
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json")}
    assert len(files) == (5 if with_bench else 3)
    rl2_search.main(config)  # nothing is trained or tested again
    assert capsys.readouterr().out == printed
    assert files == {path: path.stat().st_mtime_ns for path in files}
    rl2_search.main(dataclasses.replace(config, runs=4))  # but what is asked anew is
    assert all(path.stat().st_mtime_ns != files[path] for path in files if path.stem == "digits201")
    with pytest.raises(CheckpointError, match="choose another --out"):
        rl2_search.main(dataclasses.replace(config, n=4))


def test_zoph_chain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    zoph = load("zoph_chain")
    monkeypatch.setattr(zoph, "SPACE", zoph.Chain(2, filters=(2, 4), heights=(1, 3), widths=(3,)))
    monkeypatch.setattr(zoph, "RECIPE", zoph.Recipe(epochs=1))
    monkeypatch.setattr(zoph, "WINDOW", 4)
    monkeypatch.setattr(zoph, "ANEW", 2)
    config = zoph.Config(out=tmp_path, seeds=2, children=20, workers=0)
    zoph.main(config)
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert set(results) == {"random search", "controller"}
    for found in (result for runs in results.values() for result in runs):
        assert all(len(found[name]) == 20 for name in ("validation", "test", "seconds"))
        best = found["architecture"][int(zoph.np.argmax(found["validation"]))]
        assert found["best"] == best and len(found["anew"]) == 2
    last = [100 * zoph.np.mean(result["validation"][-4:]) for result in results["random search"]]
    assert f"| {zoph.np.mean(last):.2f} [{min(last):.2f}, {max(last):.2f}]" in printed

    # What was interrupted is made again with what is there: the same, its seconds included.
    for file in [*tmp_path.glob("*.json"), *tmp_path.glob("controller-0.015-seed1/config.json")]:
        file.unlink()
    zoph.main(config)
    again = json.loads((tmp_path / "results.json").read_text())["results"]
    for method, runs in results.items():
        for one, other in zip(runs, again[method], strict=True):
            assert {**one, "wall_seconds": 0} == {**other, "wall_seconds": 0}
    capsys.readouterr()
    zoph.main(config)  # nothing is searched again
    assert "seed" not in capsys.readouterr().out.split("|")[0]

    with pytest.raises(zoph.InvalidArgumentError, match="multiple of"):
        zoph.Config(children=zoph.CONTROLLER.num_envs + 1)


def test_zoph_chain_spread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    zoph = load("zoph_chain")
    monkeypatch.setattr(zoph, "RECIPE", zoph.Recipe(epochs=1))
    numbers = zoph.spread(zoph.Config(out=tmp_path, workers=0, samples=5))
    printed = capsys.readouterr().out
    assert "Validation accuracy of 5 random chains" in printed
    assert numbers["lowest"] <= numbers["mean"] <= numbers["highest"]
    assert numbers["standard deviation over seeds"] > 0


def test_zoph_chain_divides_the_digits() -> None:
    data = load("zoph_chain").images()
    assert [len(images) for images in data[::2]] == [400, 600, 797]
    assert len({image.tobytes() for split in data[::2] for image in split}) == 1797


def test_unbiased_learning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = load("unbiased_learning")
    config = script.Config(out=tmp_path, seeds=(0,), auctions=1500, dependences=(1.0,))
    first, again = script.main(config), script.main(config)  # the second reads what is there
    np.testing.assert_array_equal(first[1.0].auc, again[1.0].auc)
    assert (tmp_path / "unbiased_learning.png").is_file()
    assert "63.78 → 64.12" in capsys.readouterr().out


def test_ad_clicks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = load("ad_clicks")
    config = script.Config(out=tmp_path, seeds=(0,), sizes=(60,), source=200, test=300,
                           similarities=(0.0,), middle=60, validation=1)  # fmt: skip
    first, again = script.main(config), script.main(config)
    np.testing.assert_array_equal(first[0.0, 60], again[0.0, 60])
    assert (tmp_path / "ad_clicks.png").is_file()
    printed = capsys.readouterr().out
    assert "| hierarchical Bayes minus ..., AUC, percentage points | m = 60 |" in printed
    assert "| log loss minus that of ads only, nats, m = 60 | ρ = 0 |" in printed


def test_sb3_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of the suite's tasks and seeds, which the board plays; a second call keeps them."""
    sb3_suite, suite = load("sb3_suite"), make_suite("core-v0")
    bandit = dataclasses.replace(suite.task("bandit"), training_steps=2000, episodes=20, group=10)
    small = dataclasses.replace(suite, tasks=(bandit,), seeds=suite.seeds[:2])
    monkeypatch.setattr(sb3_suite, "make_suite", lambda name: small)
    sb3_suite.main(sb3_suite.Config(out=tmp_path / "zips", tasks=("bandit",)))
    zips = [tmp_path / "zips" / "bandit" / f"seed{seed}.zip" for seed in small.seeds]
    before = [path.read_bytes() for path in zips]
    assert before[0] != before[1]
    sb3_suite.main(sb3_suite.Config(out=tmp_path / "zips"))
    assert [path.read_bytes() for path in zips] == before
    row = run_suite(str(tmp_path / "zips"), small, tmp_path / "row", trust=True)
    assert not row.failures and [entry.seed for entry in row.results] == list(small.seeds)
    trainings = [entry.result.training for entry in row.results]
    assert trainings == [{"steps": 2000, "seed": seed} for seed in range(2)]
    with pytest.raises(InvalidArgumentError, match="bandit"):
        sb3_suite.main(sb3_suite.Config(tasks=("bandits",)))
