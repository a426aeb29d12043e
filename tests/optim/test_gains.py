"""GainRule: what it does not depend on, what it does with nasty input, and its formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metagym.errors import InvalidArgumentError
from metagym.optim.gains import BOUND, COORDINATE_FEATURES, FEATURES, NUM_GAINS, GainRule
from metagym.optim.hand_designed import Adam

# Losses [B], gradients and last steps [B, d], step by step.
Seen = Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]

VIEWS = ("problem", "coordinate")
SIZES = ("curvature", "polyak")


def histories(problems: Any, steps: int = 12, seed: int = 1) -> Seen:
    """Losses, gradients and last steps along a wandering descent."""
    rng = np.random.default_rng(seed)
    x, last = problems.start, np.zeros_like(problems.start)
    seen = []
    for _ in range(steps):
        loss, gradient = problems(x)
        seen.append((loss, gradient, last))
        last = -0.1 * gradient + 0.3 * last + 0.02 * rng.standard_normal(x.shape)
        x = x + last
    return seen


def play(rule: GainRule, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """The features and the steps of ``rule`` along a history."""
    features, steps = [], []
    for entry in seen:
        features.append(rule.observe(*entry))
        assert rule.policy is not None
        steps.append(rule.combine(rule.policy(features[-1])))
    return np.array(features), np.array(steps)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("per", VIEWS)
@pytest.mark.parametrize(("f_scale", "x_scale"), [(1e6, 1.0), (1.0, 1e-3), (3e-5, 700.0)])
def test_neither_the_scale_of_f_nor_that_of_x_matters(
    quadratics: Any, gain_rule: Any, per: str, size: str, f_scale: float, x_scale: float
) -> None:
    seen = histories(quadratics())
    scaled = [(f_scale * f, f_scale / x_scale * g, x_scale * p) for f, g, p in seen]
    features, steps = play(gain_rule(per, step_size=size), seen)
    others, other_steps = play(gain_rule(per, step_size=size), scaled)
    np.testing.assert_allclose(others, features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other_steps / x_scale, steps, rtol=1e-4, atol=1e-5)
    assert np.abs(features[1:]).mean() > 0.1  # there is something to compare


def test_a_rotation_rotates_the_step_of_a_whole_problem(quadratics: Any, gain_rule: Any) -> None:
    seen = histories(quadratics())
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((5, 5)))[0]
    features, steps = play(gain_rule(), seen)
    others, other_steps = play(gain_rule(), [(f, g @ turn, p @ turn) for f, g, p in seen])
    np.testing.assert_allclose(others, features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other_steps, steps @ turn, rtol=1e-4, atol=1e-5)


def test_coordinates_are_alike(quadratics: Any, gain_rule: Any) -> None:
    """A permutation of the coordinates permutes features and step of a coordinatewise rule."""
    seen, order = histories(quadratics()), [3, 0, 4, 2, 1]
    features, steps = play(gain_rule("coordinate"), seen)
    shuffled = [(f, g[:, order], p[:, order]) for f, g, p in seen]
    others, other_steps = play(gain_rule("coordinate"), shuffled)
    np.testing.assert_allclose(others, features[:, :, order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other_steps, steps[:, :, order], rtol=1e-4, atol=1e-5)


def test_coordinates_that_are_told_the_same_do_what_a_problem_does(
    quadratics: Any, random_policy: Any
) -> None:
    policy = random_policy(len(FEATURES))
    problems = quadratics()
    whole = GainRule("problem", policy=policy)
    each = GainRule("coordinate", policy=lambda f: policy(f[..., : len(FEATURES)]))
    np.testing.assert_allclose(problems.run(each, 20), problems.run(whole, 20), rtol=1e-5)


def test_the_policy_does_not_know_the_dimension(quadratics: Any, gain_rule: Any) -> None:
    """A problem and the same one with idle coordinates: the same features and steps."""
    seen = histories(quadratics())
    padded = [(f, np.pad(g, ((0, 0), (0, 7))), np.pad(p, ((0, 0), (0, 7)))) for f, g, p in seen]
    features, steps = play(gain_rule(), seen)
    others, other_steps = play(gain_rule(), padded)
    np.testing.assert_allclose(others, features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(other_steps[..., :5], steps, rtol=1e-5, atol=1e-6)
    assert not other_steps[..., 5:].any()


@pytest.mark.parametrize("per", VIEWS)
def test_features_are_what_the_shapes_say(quadratics: Any, per: str) -> None:
    problems, rule = quadratics(rows=3, dim=5), GainRule(per)
    loss, gradient = problems(problems.start)
    features = rule.observe(loss, gradient, np.zeros((3, 5)))
    width = len(FEATURES) + (len(COORDINATE_FEATURES) if per == "coordinate" else 0)
    lead = (3,) if per == "problem" else (3, 5)
    assert features.shape == (3, *rule.feature_shape(5)) == (*lead, width)
    assert (3, *rule.gain_shape(5)) == (*lead, NUM_GAINS)
    assert features.dtype == np.float32


def test_some_features_by_hand() -> None:
    """Two steps in one dimension with curvature 2: g = 2x, from 1 to 0.75."""
    rule = GainRule()
    rule.observe(np.array([1.0]), np.array([[2.0]]), np.array([[0.0]]))
    rule.combine(np.array([[0.2, -0.4]]))
    values = rule.observe(np.array([0.5625]), np.array([[1.5]]), np.array([[-0.25]]))[0]
    seen = dict(zip(FEATURES, values, strict=True))
    expected = {
        "log f'/f": np.log(1 / 0.5625) / 2,
        "log |g'|/|g|": np.log(2**2 / 1.5**2) / 4,
        "cos(g, p)": -1.0,
        "cos(g, g')": 1.0,
        "cos(y, p)": 1.0,
        "cos(g, y)": -1.0,
        "log |y|/L|p|": 0.0,  # |y|/|p| = 2 and |g|^2/2f = 2
        "log py/Lpp": 0.0,
        "sign py": 1.0,
        "line error gp/py": np.tanh(-0.375 / 0.125),
        "log L|p|/|g|": np.log(2 * 0.25 / 1.5) / 4,
        "log smallest py/Lpp": 0.0,
        "log gg/2Lf": np.log(1.5**2 / (2 * 2 * 0.5625)) / 4,
        "exp(-t/10)": np.exp(-0.2),
        "exp(-t/50)": np.exp(-0.04),
        "log best f/f": 0.0,
        "mean log f'/f": 0.1 * np.log(1 / 0.5625),
        "gain α'": 0.2,
        "gain β'": -0.4,
    }
    for name, value in expected.items():
        assert seen[name] == pytest.approx(value, abs=1e-6), name


def test_curvature_along_the_last_gradient_is_that_of_the_quadratic(quadratics: Any) -> None:
    """log g'Hg'/Lg'g', which the rule gets from inner products, against the matrix itself."""
    problems, rule = quadratics(rows=4), GainRule(policy=lambda f: np.tile([0.3, -0.2], (4, 1)))
    x, last, previous = problems.start, *np.zeros((2, *problems.start.shape))
    feature = FEATURES.index("log g'Hg'/Lg'g'")
    for t in range(6):
        loss, gradient = problems(x)
        seen = rule.observe(loss, gradient, last)
        if t > 0:
            along = np.einsum("bi,bij,bj->b", previous, problems.a, previous)
            along /= np.vecdot(previous, previous) * rule.state["largest"]
            np.testing.assert_allclose(seen[:, feature], np.log(along) / 4, rtol=1e-4, atol=1e-5)
        previous, last = gradient, rule.combine(rule.policy(seen))  # type: ignore[misc]
        x = x + last


@pytest.mark.parametrize("per", VIEWS)
def test_the_untrained_control_is_the_stated_formula(quadratics: Any, per: str) -> None:
    problems = quadratics(rows=2)
    x = problems.run(GainRule(per), 15)
    losses, gradients = (np.array(column) for column in zip(*map(problems, x), strict=True))
    curvature = np.vecdot(gradients[0], gradients[0]) / (2 * losses[0])
    last = np.zeros_like(x[0])
    for t in range(15):
        if t > 0:
            y = np.linalg.norm(gradients[t] - gradients[t - 1], axis=1)
            curvature = np.maximum(curvature, y / np.linalg.norm(last, axis=1))
        step = -(np.exp(0.5) / curvature)[:, None] * gradients[t] + 0.5 * last
        np.testing.assert_allclose(x[t + 1] - x[t], step, rtol=1e-6, atol=1e-10)
        last = step
    assert (losses[-1] < 1e-2 * losses[0]).all()


def test_polyak_steps_are_twice_the_loss_over_the_squared_gradient(quadratics: Any) -> None:
    problems = quadratics(rows=2)
    x = problems.run(GainRule(step_size="polyak"), 5)
    losses, gradients = (np.array(column) for column in zip(*map(problems, x), strict=True))
    size = np.exp(0.5) * 2 * losses / np.vecdot(gradients, gradients)
    last = np.zeros_like(x[0])
    for t in range(5):
        last = -size[t][:, None] * gradients[t] + 0.5 * last
        np.testing.assert_allclose(x[t + 1] - x[t], last, rtol=1e-9)


def test_rms_steps_are_those_of_adam_without_momentum(quadratics: Any) -> None:
    problems = quadratics(3)
    lr = 0.5
    gains = np.array([(np.log(lr) + 0.5) / 3, -0.5 / 0.7])  # β = 0
    rule = GainRule(step_size="rms", policy=lambda f: np.broadcast_to(gains, (len(f), 2)))
    twin = Adam(lr=lr, beta1=0.0, beta2=0.99)
    for seen in histories(problems):
        np.testing.assert_allclose(rule.update(*seen), twin.update(*seen), rtol=1e-6)


def test_memory_lets_the_largest_curvature_fade() -> None:
    rule = GainRule(memory=0.5)
    gradients, largest = (4.0, 0.0, 0.0, 0.0), []
    for t, gradient in enumerate(gradients):
        last = -1.0 if t else 0.0
        rule.observe(np.array([2.0]), np.array([[gradient]]), np.array([[last]]))
        rule.combine(np.zeros((1, 2)))
        largest.append(float(rule.state["largest"][0]))
    assert largest == [4.0, 4.0, 2.0, 1.0]


def test_a_start_without_a_gradient_does_not_stop_it_for_ever() -> None:
    rule, zero = GainRule(), np.zeros((1, 2))
    assert not rule.update(np.ones(1), zero, zero).any()
    step = rule.update(np.ones(1), np.array([[1.0, 0.0]]), zero)
    np.testing.assert_allclose(step, [[-2 * np.exp(0.5), 0.0]])


NASTY = st.sampled_from([0.0, 1e-300, 1e-30, 1e-8, 1.0, 1e8, -1e8, -1.0, -1e-20])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("per", VIEWS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_nasty_input_gives_finite_features_and_steps(per: str, data: st.DataObject) -> None:
    numbers = st.lists(NASTY, min_size=3, max_size=3)
    rule = GainRule(per)
    for t in range(4):
        loss = np.array([data.draw(NASTY)])
        gradient = np.array([data.draw(numbers)])
        last = np.array([data.draw(numbers)]) * (t > 0)
        features = rule.observe(loss, gradient, last)
        assert np.isfinite(features).all() and (np.abs(features) <= BOUND).all()
        with np.errstate(over="ignore"):
            gain = data.draw(st.sampled_from([-1.0, 0.0, 1.0]))
            step = rule.combine(np.full((1, *rule.gain_shape(3)), gain))
        assert not np.isnan(step).any()


@pytest.mark.parametrize("per", VIEWS)
def test_restart_leaves_the_other_rows_exactly_alone(
    quadratics: Any, gain_rule: Any, per: str
) -> None:
    seen = histories(quadratics(rows=4))
    mask = np.array([True, False, False, True])
    whole, restarted, fresh = (gain_rule(per) for _ in range(3))
    play(whole, seen[:6])
    play(restarted, seen[:6])
    first = tuple(np.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, 7.0) for a in seen[0])
    features = restarted.restart(mask, *first)
    expected = fresh.observe(*seen[0])
    np.testing.assert_array_equal(features[mask], expected[mask])
    for name in whole.state:
        np.testing.assert_array_equal(restarted.state[name][~mask], whole.state[name][~mask])
    # The step that is due is the old one where nothing restarted, and a first one elsewhere.
    gains = np.full((4, *whole.gain_shape(5)), 0.3)
    ours = restarted.combine(gains)
    np.testing.assert_array_equal(ours[~mask], whole.combine(gains)[~mask])
    np.testing.assert_array_equal(ours[mask], fresh.combine(gains)[mask])


@pytest.mark.parametrize("per", VIEWS)
def test_reset_rows_are_like_a_fresh_rule(quadratics: Any, gain_rule: Any, per: str) -> None:
    problems = quadratics(rows=4)
    mask = np.array([False, True, True, False])
    whole, fresh = problems.run(gain_rule(per), 10), problems.run(gain_rule(per), 5)
    rule = gain_rule(per)
    x, last = problems.start, np.zeros_like(problems.start)
    for t in range(10):
        if t == 5:
            rule.reset(mask)
            x = np.where(mask[:, None], problems.start, x)
            last = np.where(mask[:, None], 0.0, last)
        last = rule.update(*problems(x), last)
        x = x + last
    np.testing.assert_allclose(x[mask], fresh[-1][mask], rtol=1e-6)
    np.testing.assert_allclose(x[~mask], whole[-1][~mask], rtol=1e-6)


def test_gains_beyond_the_bounds_are_clipped(quadratics: Any) -> None:
    problems = quadratics(rows=2)
    steps = []
    for gain in (1.0, 5.0):
        rule = GainRule()
        loss, gradient = problems(problems.start)
        rule.observe(loss, gradient, np.ones((2, 5)))
        steps.append(rule.combine(np.full((2, 2), gain)))
    np.testing.assert_array_equal(*steps)


@pytest.mark.parametrize("arguments", [{"per": "row"}, {"memory": 1.5}, {"step_size": "newton"}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(arguments))):
        GainRule(**arguments)
