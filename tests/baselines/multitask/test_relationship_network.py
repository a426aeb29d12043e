"""The tensor-normal prior against Kronecker products and a maximiser, and what it learns."""

from __future__ import annotations

import itertools

import pytest
import torch

from metagym.baselines.multitask.architectures import make_architecture
from metagym.baselines.multitask.data import TasksShape
from metagym.baselines.multitask.relationship_network import TensorNormal
from metagym.errors import InvalidArgumentError


def shape(tasks, outputs=1, kind="regression"):
    one_hot = tuple(tuple(row) for row in torch.eye(tasks).tolist())
    return TasksShape(3, (kind,) * tasks, (outputs,) * tasks, one_hot)


def prior(*sizes, seed=0):
    """A prior with random covariances, and a draw of random weights."""
    rng = torch.Generator().manual_seed(seed)
    made = TensorNormal(sizes, shrinkage=0.1, learned=len(sizes)).double()
    for mode, size in enumerate(sizes):
        root = torch.randn(size, size + 2, generator=rng, dtype=torch.float64)
        setattr(made, f"covariance_{mode}", root @ root.T / size)
    return made, torch.randn(*sizes, generator=rng, dtype=torch.float64)


def kronecker(matrices):
    found = torch.ones(1, 1, dtype=torch.float64)
    for matrix in matrices:
        found = torch.kron(found, matrix)
    return found


@pytest.mark.parametrize("sizes", [(3, 4), (2, 3, 4), (3, 1, 2)])
def test_the_quadratic_form_is_that_of_the_kronecker_product(sizes):
    made, w = prior(*sizes)
    big = kronecker(made.covariances)
    expected = w.flatten() @ torch.linalg.solve(big, w.flatten())
    torch.testing.assert_close(made.quadratic(w), expected)


@pytest.mark.parametrize(("sizes", "mode"), [((3, 9), 0), ((9, 3), 1), ((3, 2, 5), 0)])
def test_the_update_maximises_the_likelihood(sizes, mode):
    """Σ of one mode, the others held, by L-BFGS on the density that torch has."""
    made, w = prior(*sizes)
    others = [c.clone() for c in made.covariances]
    size = sizes[mode]
    factor = torch.eye(size, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [factor], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )
    zero = torch.zeros(w.numel(), dtype=torch.float64)

    def loss():
        search.zero_grad()
        lower = factor.tril()
        matrices = [lower @ lower.T if i == mode else c for i, c in enumerate(others)]
        normal = torch.distributions.MultivariateNormal(zero, kronecker(matrices))
        value = -normal.log_prob(w.flatten())
        value.backward()
        return value

    search.step(loss)
    found = (factor.tril() @ factor.tril().T).detach()
    torch.testing.assert_close(made.estimate(w, mode), found, rtol=1e-4, atol=1e-5)


def test_a_sweep_keeps_traces_and_leaves_weights_without_scale_alone():
    made, w = prior(4, 3, 5)
    made.update(w)
    for covariance, size in zip(made.covariances, (4, 3, 5), strict=True):
        torch.testing.assert_close(covariance.trace(), torch.tensor(float(size)).double())
        torch.testing.assert_close(covariance, covariance.T)
        assert torch.linalg.eigvalsh(covariance).min() >= 0.1 - 1e-9
    kept = [c.clone() for c in made.covariances]
    made.update(torch.zeros_like(w))
    made.update(torch.full_like(w, torch.nan))
    assert all(torch.equal(a, b) for a, b in zip(made.covariances, kept, strict=True))


def test_the_scale_of_weights_changes_no_covariance():
    one, w = prior(4, 3, 5)
    two, _ = prior(4, 3, 5)
    one.update(w)
    two.update(1e-3 * w)
    for a, b in zip(one.covariances, two.covariances, strict=True):
        torch.testing.assert_close(a, b)


def test_relations_of_tasks_are_learned_and_help_those_with_little_data():
    """Tasks 0 and 1 want w, tasks 2 and 3 want −w; 1 and 3 have few examples."""
    rng = torch.Generator().manual_seed(0)
    signs, sizes = (1, 1, -1, -1), (80, 10, 80, 10)
    w = torch.tensor([1.0, -1.0, 0.5])
    inputs = [torch.randn(n, 3, generator=rng) for n in sizes]
    labels = [
        sign * x @ w + 0.5 * torch.randn(len(x), generator=rng)
        for sign, x in zip(signs, inputs, strict=True)
    ]
    new = torch.randn(300, 3, generator=rng)

    def train(strength):
        network = make_architecture("deep_relationship", shape(4), widths=(16,), strength=strength)
        adam = torch.optim.Adam(network.parameters(), lr=0.02)
        for _ in range(120):
            adam.zero_grad()
            predictions, penalty = network(inputs)
            sum(
                ((p[:, 0] - y).square().mean() for p, y in zip(predictions, labels, strict=True)),
                penalty,
            ).backward()
            adam.step()
        answers = network.eval()([new] * 4).predictions
        errors = [
            float((a[:, 0] - sign * new @ w).square().mean().detach())
            for a, sign in zip(answers, signs, strict=True)
        ]
        return network, errors[1] + errors[3]

    network, error = train(0.1)
    correlation = network.task_correlation
    torch.testing.assert_close(correlation.diagonal(), torch.ones(4))
    torch.testing.assert_close(network.task_covariance.trace(), torch.tensor(4.0))
    assert correlation[0, 1] > 0.7 and correlation[2, 3] > 0.7
    assert correlation[:2, 2:].max() < -0.7
    assert error < 0.7 * train(0.0)[1]


@pytest.mark.parametrize("learn", ["tasks", "all"])
def test_what_is_not_learned_stays_the_identity(learn):
    network = make_architecture("deep_relationship", shape(3), covariances=learn, shrinkage=0.2)
    (w,) = network.weights()
    network([torch.ones(2, 3)] * 3)
    tasks, _, features = network.priors[0].covariances
    assert torch.equal(features, torch.eye(64)) == (learn == "tasks")
    rows = w.detach()[:, 0]
    expected = 0.8 * 3 * rows @ rows.T / rows.square().sum() + 0.2 * torch.eye(3)
    torch.testing.assert_close(tasks, expected)  # the first of a sweep sees no other yet


def test_only_training_updates_and_only_now_and_then():
    network = make_architecture("deep_relationship", shape(3), update_every=3)
    inputs = [torch.ones(2, 3)] * 3
    network.eval()(inputs)
    assert torch.equal(network.task_covariance, torch.eye(3)) and network.passes == 0
    network.train()
    seen = []
    for step in range(7):
        with torch.no_grad():  # weights that move, so that a sweep is seen
            network.own[0][-1].weight.add_(step)
        network(inputs)
        seen.append(network.task_covariance)
    changed = [not torch.equal(a, b) for a, b in itertools.pairwise(seen)]
    assert changed == [False, False, True, False, False, True]


def test_two_passes_before_one_backward_are_fine():
    network = make_architecture("deep_relationship", shape(3), update_every=1)
    inputs = [torch.ones(2, 3)] * 3
    one, two = network(inputs), network(inputs)
    (one.penalty + two.penalty).backward()


def test_the_penalty_is_strength_times_the_prior_of_each_layer():
    network = make_architecture("deep_relationship", shape(3), task_widths=(4,), strength=0.5)
    network.eval()
    weights = network.weights()
    assert [tuple(w.shape) for w in weights] == [(3, 4, 64), (3, 1, 4)]
    assert torch.equal(weights[0][0], weights[0][1])  # units that correspond
    expected = 0.25 * sum(w.square().sum() for w in weights)  # Σ = I as yet
    torch.testing.assert_close(network([torch.ones(1, 3)] * 3).penalty, expected)


def test_layers_that_cannot_be_compared_have_no_prior():
    unequal = TasksShape(3, ("regression", "multiclass"), (1, 4), ((1.0, 0.0), (0.0, 1.0)))
    network = make_architecture("deep_relationship", unequal, task_widths=(5,))
    assert [tuple(w.shape) for w in network.weights()] == [(2, 5, 64)]
    with pytest.raises(InvalidArgumentError, match="hidden layer"):
        make_architecture("deep_relationship", unequal, task_widths=())
