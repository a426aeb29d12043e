"""The analyses of few-shot learning in experiments/, in miniature: they measure what they say."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from metagym.baselines.few_shot import make_method
from metagym.baselines.few_shot.base import per_task_loss
from metagym.baselines.few_shot.functional import last
from metagym.baselines.few_shot.judge import few_shot_scores
from metagym.baselines.few_shot.reptile import union
from metagym.baselines.few_shot.train import TrainConfig, load_method
from metagym.checkpoint import load_checkpoint, read_config
from metagym.errors import InvalidArgumentError
from metagym.monitoring import read_scalars
from metagym.tasks.few_shot import Tasks
from metagym.tasks.image_sets import pack
from metagym.tasks.sinusoid import Sinusoid

FOLDER = Path(__file__).parent.parent / "experiments"
TASKS = Sinusoid(5, 5, device="cpu")


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``load(name)``: the script as a module, which writes into a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)  # scripts import what they share from beside them

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"experiments_{name}", FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look it up
        spec.loader.exec_module(module)
        return module

    return load


def _files(folder: Path) -> dict[Path, int]:
    """When the checkpoints and the charts were written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*")}


def _sampled(count=4, split="train"):
    return TASKS.sample(count, split, torch.Generator().manual_seed(0))


# -- what they share ---------------------------------------------------------------------------


def test_runs_go_on_are_not_run_again_and_do_not_mix(load, tmp_path):
    runs = load("few_shot_runs")

    def train(iterations, rate=1e-3, schedule="constant", out="run", seed=0):
        loop = TrainConfig(iterations=iterations, outer_lr=rate, schedule=schedule, eval_every=2)
        method = make_method("maml", TASKS, hidden=(8,), seed=seed)
        return runs.trained(method, TASKS, tmp_path / out, loop, 0)

    train(2)
    longer = train(4)
    whole = train(4, out="whole")
    for one, two in zip(longer.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, two)
    before = _files(tmp_path)
    again = train(4, seed=7)
    assert all(map(torch.equal, again.parameters(), whole.parameters()))
    assert _files(tmp_path) == before
    for wrong in ({"iterations": 2}, {"iterations": 4, "rate": 0.1}):
        with pytest.raises(InvalidArgumentError, match="other settings"):
            train(**wrong)
    # Half of a run whose rate falls to zero is no run of half the length.
    train(2, schedule="linear", out="linear")
    with pytest.raises(InvalidArgumentError, match="iterations"):
        train(4, schedule="linear", out="linear")


def test_scores_along_the_path_are_those_of_that_many_steps(load):
    runs = load("few_shot_runs")
    method = make_method("maml", TASKS, hidden=(8,))
    found = runs.path_scores(method, TASKS, "test", 20, (0, 3))
    assert list(found) == [0, 3]
    for steps, scores in found.items():
        expected = few_shot_scores(method, TASKS, "test", 20, steps=steps)
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_seeds_are_averaged_task_by_task_and_divergence_is_not_hidden(load):
    OverSeeds = load("few_shot_runs").OverSeeds
    found = OverSeeds(np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]))
    assert found.per_task.tolist() == [2.0, 3.0, 4.0]
    assert found.estimate.value == 3.0 and found.estimate.low >= 2.0  # over tasks, not seeds
    assert found.cell(digits=1).endswith("(2.0 to 4.0)")
    assert found.cell(100.0, 0).startswith("300 ± ")
    assert found.as_dict()["seeds"] == [2.0, 4.0]
    diverged = OverSeeds(np.array([[1.0, np.inf], [np.nan, np.nan]]))
    assert diverged.cell() == "diverges on 2 tasks" and diverged.as_dict() == {"diverged": 2}


# -- Reptile's analysis ------------------------------------------------------------------------


def test_one_inner_step_on_minibatches_is_a_step_of_joint_training():
    method = make_method("reptile", TASKS, inner_steps=1, minibatch=4, inner_lr=0.02)
    tasks = _sampled()
    loss, _ = method.meta_loss(tasks, torch.Generator().manual_seed(1))
    found = torch.autograd.grad(loss, list(method.parameters()))
    x, y = union(tasks)
    rows = method._minibatches(len(x), x.shape[1], torch.Generator().manual_seed(1))[:, 0]
    number = torch.arange(len(x))[:, None]
    joint = per_task_loss("regression", method.network(x[number, rows].flatten(0, 1)),
                          y[number, rows].flatten(0, 1))  # fmt: skip
    expected = torch.autograd.grad(joint, list(method.parameters()))
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, 0.02 * two, rtol=1e-4, atol=1e-7)


def test_the_second_term_of_reptile_raises_the_inner_product_of_gradients():
    rate = 1e-5
    tasks = Tasks(*(x.double() for x in _sampled(1)))
    batches = [(tasks.support_x[0], tasks.support_y[0]), (tasks.query_x[0], tasks.query_y[0])]
    method = make_method("reptile", TASKS, hidden=(8, 8), inner_lr=rate).double()
    start = method.initial_parameters()
    gradients = [
        torch.autograd.grad(method.support_loss(start, x, y), list(start.values()),
                            create_graph=True)
        for x, y in batches
    ]  # fmt: skip
    product = sum((one * other).sum() for one, other in zip(*gradients, strict=True))
    of_product = torch.autograd.grad(product, list(start.values()), retain_graph=True)
    # Both orders of the minibatches, as in the mean over them.
    ends = [last(method.train_on(start, iter(order)), start) for order in (batches, batches[::-1])]
    for name, one, other, expected in zip(start, *gradients, of_product, strict=True):
        moved = sum((start[name] - end[name]) / 2 for end in ends)
        second = (moved / rate - one - other) / rate
        torch.testing.assert_close(second, -expected / 2, rtol=1e-2, atol=1e-3)


def test_alignment_is_that_of_gradients_one_by_one(load):
    reptile = load("reptile")
    method, tasks = make_method("anil", TASKS, hidden=(6,)), _sampled(5)

    def gradient(x, y):
        loss = per_task_loss("regression", method.network(x), y)
        parts = torch.autograd.grad(loss, list(method.parameters()))
        return torch.cat([part.flatten() for part in parts]).double().numpy()

    one = [gradient(x, y) for x, y in zip(tasks.support_x, tasks.support_y, strict=True)]
    two = [gradient(x, y) for x, y in zip(tasks.query_x, tasks.query_y, strict=True)]
    found = reptile.alignment(method, tasks)
    assert set(found) == set(reptile.MEASURES)
    for i in range(5):
        products = np.array([one[i] @ other for other in two])
        lengths = np.array([np.linalg.norm(one[i]) * np.linalg.norm(other) for other in two])
        for name, values in (("product", products), ("cosine", products / lengths)):
            others = np.delete(values, i).mean()
            np.testing.assert_allclose(found[f"within_{name}"][i], values[i], rtol=1e-4)
            np.testing.assert_allclose(found[f"across_{name}"][i], others, rtol=1e-4, atol=1e-6)


def test_alignment_within_a_task_is_what_inner_steps_add(load, tmp_path, capsys):
    reptile = load("reptile")
    rows = (reptile.CONTROL, "k = 8", "MAML")
    config = reptile.Config(
        out=tmp_path / "out", rows=rows, budget=160, seeds=(0,), tasks=60, points=4
    )
    found = reptile.main(config)
    assert [found[row]["iterations"] for row in rows] == [160, 20, 40]
    end = {row: found[row]["end"]["within_cosine"]["value"] for row in rows}
    assert end["k = 8"] > end[reptile.CONTROL] + 0.05
    curve = found["k = 8"]["curves"]["within_cosine"]
    assert [gradients for gradients, _ in curve] == [0, 40, 80, 120, 160]
    assert curve[0][1] == pytest.approx(found["MAML"]["start"]["within_cosine"]["value"])
    assert curve[-1][1] == pytest.approx(end["k = 8"], rel=1e-5)
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "table.md").read_text() in printed
    assert (tmp_path / "out" / "reptile.png").stat().st_size > 10_000
    before = _files(tmp_path / "out")
    assert reptile.main(config) == found and _files(tmp_path / "out") == before
    with pytest.raises(InvalidArgumentError, match="budget=100"):
        reptile.main(reptile.Config(budget=100))


# -- diversity ---------------------------------------------------------------------------------


def test_diversity_judges_all_on_both_kinds_of_tasks(load, tmp_path, capsys, monkeypatch):
    script = load("task_diversity")
    monkeypatch.setattr(script, "STEPS", (0, 1, 3))
    monkeypatch.setattr(script, "CONTROL_STEPS", (0, 1, 4))
    methods = ("Reptile", script.CONTROL)
    config = script.Config(
        out=tmp_path / "out", diversities=(0.0, 1.0), methods=methods, iterations=3, tasks=20,
        validation=10,
    )  # fmt: skip
    found = script.main(config)
    assert list(found) == [*methods, script.SCRATCH]
    for kinds in found.values():
        one, other = kinds["same"][1.0], kinds["wide"][1.0]  # the same tasks
        np.testing.assert_array_equal(one.errors.scores, other.errors.scores)
        assert one.steps == other.steps and one.errors.scores.shape == (2, 20)
        assert set(one.steps) <= set(script.CONTROL_STEPS)
    assert found[script.SCRATCH]["wide"][0.0] is found[script.SCRATCH]["wide"][1.0]
    results = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert set(results["Reptile"]["wide"]) == {"0", "1"}
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert table.count(f"\n| {script.SCRATCH} | same |") == 2
    assert (tmp_path / "out" / "task_diversity.png").stat().st_size > 10_000


def test_steps_and_rates_are_those_that_validation_tasks_prefer(load, monkeypatch):
    script = load("task_diversity")
    monkeypatch.setattr(script, "CONTROL_STEPS", (0, 5, 40))
    config = script.Config(tasks=20, validation=30)
    method, test = make_method("joint", TASKS, hidden=(8,)), Sinusoid(5, 20, device="cpu")
    entry = script._entry(script.SCRATCH, [method], test, config)
    means = {
        (rate, steps): scores.mean()
        for rate in script.CONTROL_RATES
        for steps, scores in script.path_scores(
            make_method("joint", TASKS, hidden=(8,), inner_lr=rate), test, "validation", 30,
            (0, 5, 40),
        ).items()
    }  # fmt: skip
    chosen = entry.rates[0], entry.steps[0]
    assert means[chosen] == min(means.values()) and entry.steps[0] > 0
    best = make_method("joint", TASKS, hidden=(8,), inner_lr=chosen[0])
    expected = script.path_scores(best, test, "test", 20, (chosen[1],))[chosen[1]]
    np.testing.assert_array_equal(entry.errors.scores, expected[None])


# -- more tasks from few characters ------------------------------------------------------------


def _toy_images():
    """Classes are faint patterns of 16 × 16 pixels in noise."""
    rng = np.random.default_rng(0)
    groups = {}
    for number in range(24):
        pattern = np.kron(rng.integers(0, 100, (4, 4)), np.ones((4, 4)))
        noise = rng.integers(0, 156, (18, 16, 16))
        groups[f"class {number}"] = (pattern + noise).astype(np.uint8)
    split = {"train": np.arange(12), "validation": np.arange(12, 18), "test": np.arange(18, 24)}
    return pack("toy", groups, split)


def test_fewer_characters_are_training_characters_only(load):
    script, images = load("task_augmentation"), _toy_images()
    few = script.fewer(images, 5, 0)
    assert len(few.split["train"]) == 5 and set(few.split["train"]) <= set(images.split["train"])
    assert few.split["test"] is images.split["test"]
    assert set(script.fewer(images, 5, 1).split["train"]) != set(few.split["train"])
    assert script.fewer(images, 0, 0) is images
    with pytest.raises(InvalidArgumentError, match="has 12"):
        script.fewer(images, 13, 0)


def test_best_weights_are_those_of_the_best_look(load, tmp_path, capsys, monkeypatch):
    script = load("task_augmentation")
    monkeypatch.setattr(script, "load_image_set", lambda name: _toy_images())
    looks = itertools.cycle([0.5, 0.4, 0.9, 0.3, 0.8, 0.2])  # the best is neither first nor last
    monkeypatch.setattr(
        "metagym.baselines.few_shot.train._validation_score", lambda *_: next(looks)
    )
    config = script.Config(
        out=tmp_path / "out", characters=(6,), iterations=12, looks=6, seeds=(0, 1), tasks=20,
        development=10,
    )  # fmt: skip
    found = script.main(config)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    for row in rows:
        scores = found[row["characters"], row["rotations"], row["weights"]].scores
        assert scores.shape == (2, 20) and row["accuracy"]["value"] == scores.mean()
        for seed, iterations in enumerate(row["iterations"]):
            chart = dict(read_scalars(tmp_path / "out" / f"6-{row['rotations']}-seed{seed}")[
                "eval/score"])  # fmt: skip
            assert list(chart) == [2, 4, 6, 8, 10, 12]
            assert iterations == (6 if row["weights"] == script.BEST else 12)
    judged = script.ImageTasks(_toy_images(), script.WAYS, script.SHOTS, device="cpu")
    plain = load_method(tmp_path / "out" / "6-none-seed0", "cpu")
    for which, weights in ((script.LAST, "model"), (script.BEST, "best")):
        state = load_checkpoint(tmp_path / "out" / "6-none-seed0").extra()[weights]
        plain.load_state_dict({name: torch.tensor(x) for name, x in state.items()})
        scores = few_shot_scores(plain, judged, "test", 20, batch=25)
        np.testing.assert_array_equal(found[6, "none", which].scores[0], scores)
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in capsys.readouterr().out and table.count("turned characters") == 2
    before = _files(tmp_path / "out")
    again = script.main(config)
    assert all(np.array_equal(again[key].scores, x.scores) for key, x in found.items())
    assert _files(tmp_path / "out") == before


def test_the_table_of_sinusoids(load, tmp_path, capsys):
    script = load("maml_sinusoid")
    config = script.Config(
        out=tmp_path / "out", shots=(5,), methods=("MAML", "Reptile"), iterations=4, tasks=20,
        device="cpu",
    )  # fmt: skip
    script.main(config)
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in capsys.readouterr().out
    assert "| Reptile | 5 |" in table
    (line,) = (line for line in table.splitlines() if "oracle" in line)
    assert "privileged" in line and line.count("0.000 ± 0.000") == len(script.STEPS)
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    told = [result["privileged"] for row in rows for result in row["results"]]
    assert told == [False] * 2 * len(script.STEPS) + [True]
    maml = few_shot_scores(
        load_method(tmp_path / "out" / "maml-5shot-seed0", "cpu"),
        Sinusoid(5, script.QUERIES, device="cpu"), "test", 20, steps=10,
    )  # fmt: skip
    assert rows[0]["mse"]["10"]["value"] == pytest.approx(maml.mean())
    before = _files(tmp_path / "out")
    script.main(config)
    assert _files(tmp_path / "out") == before
    assert (tmp_path / "out" / "table.md").read_text() == table


def test_tasks_that_a_method_diverges_on_are_counted_and_leave_no_mean(load, monkeypatch):
    script = load("maml_sinusoid")
    scores = {1: [1.0, 2.0, 3.0], 5: [1.0, 2.0, 1e4], 10: [1.0, np.inf, np.nan]}
    monkeypatch.setattr(script, "few_shot_scores", lambda *_, steps, **__: np.array(scores[steps]))
    test = Sinusoid(5, 5, device="cpu")
    row = script._row("MAML", 5, None, make_method("maml", test), test, 3)
    (line,) = script._table([row], header=False).splitlines()
    assert "| 2.000 ±" in line
    assert "| diverges on 1 tasks, median 2.000 | diverges on 2 tasks, median 1000.000 |" in line


# -- the table of image tasks ------------------------------------------------------------------


def test_entries_are_kept_go_on_and_do_not_mix(load, tmp_path, capsys, monkeypatch):
    script = load("few_shot")
    monkeypatch.setattr(script, "_images", lambda name: _toy_images())

    def run(row="fomaml", **changes):
        settings = {"iterations": 2, "tasks": 6, "device": "cpu", "rotations": "none",
                    "threads": 1, "settings": ("3w1s",)}  # fmt: skip
        config = script.Config(out=tmp_path, methods=(row,), **{**settings, **changes})
        return config, script.main(config)[row, "3w1s"]

    monkeypatch.setattr(
        script,
        "_tasks_kwargs",
        lambda config, setting: {
            "ways": 3,
            "shots": int(setting[2]),
            "queries": 4,
            "rotations": config.rotations,
        },
    )
    _, first = run()
    folder = tmp_path / "glyphs-quick" / "3w1s" / "fomaml-seed0"
    before = _files(folder.parent)
    assert run()[1].scores == first.scores and _files(folder.parent) == before
    assert run(threads=2, tasks=4)[1].scores != first.scores  # judged anew, not trained
    assert read_config(folder / "run")["training"]["iteration"] == 2
    for changes, named in (
        ({"iterations": 3}, "iterations"),
        ({"iterations": None, "seconds": 5.0}, "seconds"),
        ({"rotations": "train"}, "judged"),
    ):
        with pytest.raises(InvalidArgumentError, match=rf"other settings .*{named}"):
            run(**changes)
    monkeypatch.setitem(script.IMAGES, "fomaml", script.Recipe("fomaml", {"inner_lr": 0.3}))
    with pytest.raises(InvalidArgumentError, match=r"other settings .*fields"):
        run()
    (folder / script.HOW).unlink()
    with pytest.raises(InvalidArgumentError, match="does not say how"):
        run()


def test_an_interrupted_entry_goes_on_for_what_is_left_of_its_seconds(load, tmp_path, monkeypatch):
    runs, asked = load("few_shot_runs"), []
    method = make_method("maml", TASKS, hidden=(8,))
    loop = TrainConfig(iterations=2, eval_every=1)
    runs.trained(method, TASKS, tmp_path, loop, 0)
    spent = read_config(tmp_path)["training"]["seconds"]
    monkeypatch.setattr(runs, "train_few_shot", lambda *a, **k: asked.append(k) or method)
    runs.trained(method, TASKS, tmp_path, loop, 0, seconds=spent + 7.0)
    assert asked[0]["resume"] and asked[0]["seconds"] == spent + 7.0  # a total, as iterations
    runs.trained(method, TASKS, tmp_path, loop, 0, seconds=spent)
    assert len(asked) == 1
