"""Every problem family: gradients, bounds, shapes, dtypes, randomness, batching, splits, errors."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import metagym.problems
from metagym.core.task import SPLITS, Task
from metagym.errors import InvalidArgumentError
from metagym.problems import FAMILIES, ProblemFamily, make_problem
from metagym.problems.classification import MLPClassifier
from metagym.problems.digits_net import ProjectedDigitsNet

FUNCTIONS = ("sphere", "rosenbrock", "rastrigin", "ackley", "griewank", "styblinski_tang")
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("quadratic", {}),
    ("quadratic", {"variant": "uniform", "dim": 4}),
    ("logistic", {}),
    ("logistic", {"dim": 8, "l2": 0.5}),
    ("robust", {}),
    ("small_net", {}),
    ("small_net", {"l2": 0.5}),
    ("digits_net", {"hidden": 12, "projected_dim": 8, "examples": 40}),
    ("digits_net", {"hidden": 12, "projected_dim": 8, "examples": 40, "fixed": 3}),
    ("softmax", {"dataset": "wine"}),
    ("softmax", {"dataset": "breast_cancer", "batch_size": None, "l2": 0.5}),
    ("mlp", {"dataset": "wine"}),
    ("mlp", {"dataset": "digits", "hidden": 5, "batch_size": None, "examples": 30}),
    *(("test_function", {"name": name, "dim": 5}) for name in FUNCTIONS),
    ("gaussian_process", {}),
    ("gaussian_process", {"dim": 6, "lengthscale": 0.7, "features": 32}),
]
REAL = ("digits_net", "softmax", "mlp")


def variant_id(variant: tuple[str, dict[str, Any]]) -> str:
    return "-".join([variant[0], *map(str, variant[1].values())])


@pytest.fixture(params=VARIANTS, ids=variant_id)
def family(request: pytest.FixtureRequest) -> ProblemFamily:
    name, kwargs = request.param
    return make_problem(name, **kwargs)


def draw(
    family: ProblemFamily, n: int = 4, seed: int = 0, dtype: str = "float64", split: str = "train"
) -> tuple[Task, np.ndarray]:
    """n tasks and random points in ``dtype``, as the environment would cast them."""
    rng = np.random.default_rng(seed)
    task = family.sample(rng, n, split)
    x = family.initial(task, rng) + 0.1 * rng.standard_normal((n, family.dim))
    cast = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in task.items()}
    return cast, x.astype(dtype)


def test_every_family_is_tested() -> None:
    assert {name for name, _ in VARIANTS} == set(FAMILIES)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_agrees_with_central_differences(family: ProblemFamily, seed: int) -> None:
    task, x = draw(family, seed=seed)
    step = 1e-6

    def noisy(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return family.value_and_grad(task, at, np.random.default_rng(7))  # the same minibatch

    for function in (noisy, lambda at: family.value_and_grad(task, at)):
        gradient = function(x)[1]
        coordinates = np.random.default_rng(seed).permutation(family.dim)[:25]
        directions = np.eye(family.dim)[coordinates]
        difference = [
            (function(x + step * e)[0] - function(x - step * e)[0]) / (2 * step) for e in directions
        ]
        error = np.abs(np.array(difference).T - gradient[:, coordinates]).max(axis=1)
        assert (error < 1e-5 * np.linalg.norm(gradient, axis=1)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes_and_dtypes_follow_x(family: ProblemFamily, dtype: str) -> None:
    task, x = draw(family, n=3, dtype=dtype)
    for rng in (None, np.random.default_rng(0)):
        f, g = family.value_and_grad(task, x, rng)
        assert f.shape == (3,) and g.shape == (3, family.dim)
        assert f.dtype == g.dtype == np.dtype(dtype)
    assert family.value(task, x).dtype == np.dtype(dtype)
    assert family.lower(task).shape == (3,)
    assert all(len(values) == 3 for values in task.values())


def test_lower_is_a_bound_also_far_away(family: ProblemFamily) -> None:
    task, x = draw(family, n=50)
    for scale in (0.0, 1.0, 30.0):
        assert (family.value(task, scale * x) >= family.lower(task)).all()


def test_values_stay_finite_in_float32_far_away(family: ProblemFamily) -> None:
    task, x = draw(family, dtype="float32")
    f, g = family.value_and_grad(task, 1000 * x)
    assert np.isfinite(f).all() and np.isfinite(g).all()


def test_same_generator_same_task_another_generator_another(family: ProblemFamily) -> None:
    (first, x), (second, y) = draw(family), draw(family)
    other, z = draw(family, seed=1)
    assert np.array_equal(x, y) and not np.array_equal(x, z)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert np.array_equal(family.value(first, x), family.value(second, x))
    assert not np.array_equal(family.value(first, x), family.value(other, z))


def test_a_row_of_the_batch_equals_the_single_task(family: ProblemFamily) -> None:
    task, x = draw(family, n=6)
    f, g = family.value_and_grad(task, x)
    for row in range(6):
        alone = {name: values[row : row + 1] for name, values in task.items()}
        f_row, g_row = family.value_and_grad(alone, x[row : row + 1])
        np.testing.assert_allclose(f_row[0], f[row], rtol=1e-12)
        np.testing.assert_allclose(g_row[0], g[row], rtol=1e-9, atol=1e-12)


def test_value_is_the_full_loss_and_inputs_are_left_alone(family: ProblemFamily) -> None:
    task, x = draw(family)
    before = {name: values.copy() for name, values in task.items()}
    x_before = x.copy()
    np.testing.assert_allclose(
        family.value(task, x), family.value_and_grad(task, x)[0], rtol=1e-12, atol=1e-13
    )
    family.value_and_grad(task, x, np.random.default_rng(0))
    assert np.array_equal(x, x_before)
    assert all(np.array_equal(task[name], before[name]) for name in task)


def test_minibatches_are_noisy_and_unbiased_exactly_where_the_family_says_so(
    family: ProblemFamily,
) -> None:
    task, x = draw(family, n=1)
    full, gradient = family.value_and_grad(task, x)
    rng = np.random.default_rng(0)
    draws = [family.value_and_grad(task, x, rng) for _ in range(400)]
    losses = np.array([f[0] for f, _ in draws])
    if not family.stochastic:
        assert (losses == full[0]).all()
        return
    assert losses.std() > 0
    assert abs(losses.mean() - full[0]) < 5 * losses.std() / np.sqrt(len(losses))
    mean = np.mean([g[0] for _, g in draws], axis=0)
    assert np.linalg.norm(mean - gradient[0]) < 0.2 * np.linalg.norm(draws[0][1][0] - gradient[0])


@pytest.mark.parametrize(
    "variant", [v for v in VARIANTS if v[0] in REAL], ids=lambda variant: variant_id(variant)
)
def test_real_data_is_split_into_disjoint_examples(variant: tuple[str, dict[str, Any]]) -> None:
    family = make_problem(variant[0], **variant[1])
    seen = [set(draw(family, n=200, split=split)[0]["examples"].flat) for split in SPLITS]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert seen[i] and not seen[i] & seen[j]
    task, _ = draw(family, n=20)
    assert all(len(set(row)) == len(row) for row in task["examples"].tolist())


def test_environment_splits_draw_different_tasks() -> None:
    starts = []
    for split in SPLITS:
        env = gym.make("metagym:LearnToOptimize-v0", problem="robust", split=split)
        _, info = env.reset(seed=0)
        starts.append(info["task"]["targets"])
    assert not np.array_equal(starts[0], starts[1]) and not np.array_equal(starts[1], starts[2])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_test_functions_have_their_minimum_of_zero_at_the_shift(name: str) -> None:
    family = make_problem("test_function", name=name, dim=6)
    task, _ = draw(family, n=100)
    f, g = family.value_and_grad(task, task["shift"])
    assert (f == 0).all() and (family.lower(task) == 0).all()
    assert np.abs(g).max() < 1e-9
    near = task["shift"] + 1e-7 * np.random.default_rng(0).standard_normal((100, 6))
    assert (family.value(task, near) > 0).all()


TEXTBOOK = {
    "sphere": (lambda z: (z**2).sum(), 0.0, 1.0),
    "rosenbrock": (
        lambda z: (100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2).sum(), 1.0, 0.4,
    ),
    "rastrigin": (lambda z: 10 * len(z) + (z**2 - 10 * np.cos(2 * np.pi * z)).sum(), 0.0, 1.0),
    "ackley": (
        lambda z: (
            -20 * np.exp(-0.2 * np.sqrt((z**2).mean()))
            - np.exp(np.cos(2 * np.pi * z).mean()) + 20 + np.e
        ), 0.0, 6.4,
    ),
    "griewank": (
        lambda z: (z**2).sum() / 4000 - np.cos(z / np.sqrt(np.arange(1, len(z) + 1))).prod() + 1,
        0.0, 120.0,
    ),
    "styblinski_tang": (
        lambda z: (z**4 - 16 * z**2 + 5 * z).sum() / 2 + 39.16616570377142 * len(z),
        -2.903534027771177, 1.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_test_functions_agree_with_the_textbook(name: str) -> None:
    g, minimum, scale = TEXTBOOK[name]
    family = make_problem("test_function", name=name, dim=4)
    task, x = draw(family, n=20)
    value = family.value(task, x)
    for row in range(20):
        R, s = task["rotation"][row], task["shift"][row]
        np.testing.assert_allclose(R @ R.T, np.eye(4), atol=1e-12)
        np.testing.assert_allclose(value[row], g(scale * R @ (x[row] - s) + minimum), rtol=1e-9)


def test_logistic_regression_agrees_with_its_formula_and_separates_by_label() -> None:
    family = make_problem("logistic", dim=4, l2=0.1)
    task, x = draw(family)
    margin = task["labels"] * np.einsum("npd,nd->np", task["inputs"], x)
    expected = np.log1p(np.exp(-margin)).mean(axis=1) + 0.05 * (x[:, :3] ** 2).sum(axis=1)
    np.testing.assert_allclose(family.value(task, x), expected, rtol=1e-12)
    assert (task["labels"].sum(axis=1) == 0).all() and task["inputs"].shape == (4, 100, 4)


def test_small_net_has_both_labels_shared_within_a_gaussian() -> None:
    task, _ = draw(make_problem("small_net"), n=200)
    groups = task["labels"].reshape(200, 4, 25)
    assert (groups == groups[:, :, :1]).all()
    assert set(groups[:, :, 0].sum(axis=1)) == {1, 2, 3}


def test_gaussian_process_has_the_kernel_it_promises() -> None:
    family = make_problem("gaussian_process", dim=2, lengthscale=1.5)
    task, x = draw(family, n=20_000)
    x = np.tile(x[:1], (20_000, 1))
    f = family.value(task, x)
    offset = np.array([1.0, -0.5])
    g = family.value(task, x + offset)
    expected = np.exp(-(offset**2).sum() / (2 * 1.5**2))
    assert abs((f * f).mean() - 1) < 0.05 and abs((f * g).mean() - expected) < 0.05


def test_digit_projections_are_normalised_on_the_training_images() -> None:
    family = ProjectedDigitsNet(projected_dim=6)
    task, _ = draw(family, n=2)
    train = np.broadcast_to(family._splits["train"], (2, len(family._splits["train"])))
    z = family._features(task, train)
    np.testing.assert_allclose(z.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(z.var(axis=1), 1, atol=1e-4)


def test_fixed_digits_share_the_projection_across_tasks_and_splits() -> None:
    family, twin, other = (
        ProjectedDigitsNet(projected_dim=6, examples=30, fixed=seed) for seed in (3, 3, 4)
    )
    task, x = draw(family, n=5)
    assert set(task) == {"examples"} and (task["examples"] == task["examples"][:1]).all()
    assert np.array_equal(family._inputs, twin._inputs)
    assert not np.array_equal(family._inputs, other._inputs)
    assert len(np.unique(x, axis=0)) == 5  # the initial weights are random


def test_full_batch_descent_fits_real_digits() -> None:
    family = MLPClassifier(batch_size=None, examples=60)
    task, x = draw(family, n=2, split="test")
    for _ in range(150):
        x -= 0.3 * family.value_and_grad(task, x)[1]
    assert (family.accuracy(task, x) > 0.97).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_quadratic_minimum_is_zero_where_W_is_regular(dim: int, n: int, seed: int) -> None:
    family = make_problem("quadratic", dim)
    task, _ = draw(family, n=n, seed=seed)
    x = np.linalg.solve(task["W"], task["y"][..., None])[..., 0]
    f, _ = family.value_and_grad(task, x)
    assert (
        f <= 1e-16 * (1 + np.linalg.cond(task["W"]) ** 2) * np.vecdot(task["y"], task["y"])
    ).all()


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("quadratik", {}, "Did you mean 'quadratic'"),
        ("quadratic", {"variant": "gausian"}, "Did you mean 'gaussian'"),
        ("quadratic", {"dim": 0}, "dim=0"),
        ("logistic", {"dim": 1}, "at least 2"),
        ("logistic", {"l2": -1.0}, "l2=-1.0"),
        ("logistic", {"L2": 1.0}, "Did you mean 'l2'"),
        ("robust", {"dim": -3}, "dim=-3"),
        ("small_net", {"l2": float("nan")}, "l2=nan"),
        ("small_net", {"dim": 3}, "no argument 'dim'"),
        ("digits_net", {"dataset": "minst"}, "Did you mean 'mnist'"),
        ("digits_net", {"fixed": -1}, "fixed=-1"),
        ("digits_net", {"examples": 5000}, "at most 1000"),
        ("digits_net", {"examples": 900}, "smallest split"),
        ("digits_net", {"batch_size": 0}, "batch_size=0"),
        ("digits_net", {"hidden": 0}, "hidden=0"),
        ("softmax", {"dataset": "breast-cancer"}, "Did you mean 'breast_cancer'"),
        ("softmax", {"examples": 0}, "examples=0"),
        ("mlp", {"hidden": 2.5}, "hidden=2.5"),
        ("test_function", {"name": "ackly"}, "Did you mean 'ackley'"),
        ("test_function", {"name": "rosenbrock", "dim": 1}, "at least 2"),
        ("gaussian_process", {"lengthscale": 0}, "lengthscale=0"),
        ("gaussian_process", {"features": True}, "features=True"),
    ],
)
def test_bad_arguments_are_named(name: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        make_problem(name, **kwargs)


class Quartic(ProblemFamily):
    """f(x) = ||x - c||^4: what a user writes."""

    dim = 3

    def sample(self, rng: np.random.Generator, n: int, split: str) -> Task:
        return {"c": rng.standard_normal((n, self.dim))}

    def value_and_grad(self, task, x, rng=None):  # type: ignore[no-untyped-def]
        r = x - task["c"]
        square = np.vecdot(r, r)
        return square**2, 4 * square[:, None] * r


def test_a_users_own_family_goes_through_gym_make() -> None:
    env = gym.make("metagym:LearnToOptimize-v0", problem=Quartic(), action_scale=1.0)
    _, info = env.reset(seed=0)
    step = np.clip(info["task"]["c"] - info["task"]["initial"], -1, 1)
    _, _, _, _, after = env.step(step.astype(np.float32))
    assert after["loss"] < info["loss"]
    with pytest.raises(InvalidArgumentError, match="constructor"):
        make_problem(Quartic(), 5)
    with pytest.raises(InvalidArgumentError, match="differ"):
        make_problem("quadratic", 5, dim=6)
    with pytest.raises(AttributeError, match="no attribute 'Quartics'"):
        metagym.problems.Quartics  # noqa: B018


@pytest.mark.parametrize("variant", VARIANTS, ids=variant_id)
def test_every_family_runs_in_the_batched_environment(variant: tuple[str, dict[str, Any]]) -> None:
    env = gym.make_vec(
        "LearnToOptimize-v0",
        num_envs=3,
        problem=variant[0],
        problem_kwargs=variant[1],
        action_scale=0.1,
    )
    obs, _ = env.reset(seed=0)
    assert obs.dtype == np.float32
    for _ in range(3):
        obs, reward, _, _, _ = env.step(env.action_space.sample())
        assert np.isfinite(obs).all() and np.isfinite(reward).all()
