"""What every multi-task network keeps to, and the table that makes them by name."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch
from safetensors.torch import load, save

from metagym.baselines.multitask.architectures import (
    ARCHITECTURES,
    architecture_class,
    make_architecture,
)
from metagym.baselines.multitask.conditioning import HOW
from metagym.baselines.multitask.data import TasksShape
from metagym.baselines.multitask.sharing import Widths
from metagym.errors import InvalidArgumentError

SHAPE = TasksShape(
    6,
    ("regression", "binary", "multiclass"),
    (1, 1, 4),
    ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
)
VARIANTS = {
    **{name: (name, {}) for name in ARCHITECTURES if name != "conditioned"},
    **{f"conditioned_{how}": ("conditioned", {"how": how}) for how in HOW},
    "soft_pairwise": ("soft", {"distance": "pairwise"}),
    "mmoe_towers": ("mmoe", {"tower_widths": (5,), "experts": 2}),
    "shared_private_linear": ("shared_private", {"discriminator_widths": ()}),
    "deep_relationship_all": ("deep_relationship", {"covariances": "all", "task_widths": (5, 4)}),
    "multi_source_three": ("multi_source", {"sources": (1, 2, 3), "trunk_widths": ()}),
}


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


def make(variant, seed=0):
    name, fields = variant
    return make_architecture(name, SHAPE, seed=seed, widths=(16, 12), **fields)


def batches(*sizes, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(n, 6, generator=rng) for n in sizes]


def loss(network, inputs):
    predictions, penalty = network(inputs)
    return sum(p.square().sum() for p in predictions) + penalty


def test_the_table_names_classes_by_their_names():
    for name in ARCHITECTURES:
        found = architecture_class(name)
        assert found.name == name
        found.Config()  # all fields have defaults


@pytest.mark.parametrize("sizes", [(3, 1, 7), (0, 5, 2), (4, 0, 0)])
@pytest.mark.parametrize("training", [False, True])
def test_tasks_of_any_size_and_kind_get_answers(variant, sizes, training):
    network = make(variant).train(training)
    predictions, penalty = network(batches(*sizes))
    assert [tuple(p.shape) for p in predictions] == list(zip(sizes, (1, 1, 4), strict=True))
    assert all(torch.isfinite(p).all() for p in predictions)
    assert penalty.shape == () and torch.isfinite(penalty) and penalty >= 0


def test_the_answers_of_a_task_do_not_depend_on_the_other_batches(variant):
    network = make(variant).eval()
    inputs = batches(3, 5, 7)
    together = network(inputs).predictions
    for task in range(3):
        alone = [x if i == task else x[:0] for i, x in enumerate(inputs)]
        torch.testing.assert_close(network(alone).predictions[task], together[task])
        rows = network([x[1:2] for x in inputs]).predictions[task]
        torch.testing.assert_close(rows, together[task][1:2])


def test_one_x_for_several_tasks_gives_what_copies_of_it_give(variant):
    network, (x,) = make(variant).eval(), batches(5)
    shared, copies = network([x, x, x]), network([x, x.clone(), x.clone()])
    for one, other in zip(shared.predictions, copies.predictions, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(shared.penalty, copies.penalty)


def test_losses_reach_what_is_shared_and_of_what_is_own_their_task_alone(variant):
    network = make(variant).eval()
    shared = {id(p) for p in network.shared_parameters()}
    for task in range(3):
        network.zero_grad()
        network(batches(20, 20, 20)).predictions[task].square().sum().backward()
        for name, parameter in network.named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.any())
            if name.startswith("own."):
                assert id(parameter) not in shared
                assert reached == name.startswith(f"own.{task}."), name
            else:
                assert reached == (id(parameter) in shared), name


def test_gradients_of_all_tasks_in_one_pass_are_those_of_each(variant):
    """What gradient weightings ask for: a row of the Jacobian for each loss."""
    network = make(variant).eval()
    losses = torch.stack([p.square().sum() for p in network(batches(3, 5, 7)).predictions])
    shared = network.shared_parameters()
    if not shared:
        assert variant[0] in ("single", "soft")
        return
    rows = torch.autograd.grad(
        losses, shared, torch.eye(3), retain_graph=True, is_grads_batched=True
    )
    for task in range(3):
        each = torch.autograd.grad(losses[task], shared, retain_graph=True)
        for row, gradient in zip(rows, each, strict=True):
            torch.testing.assert_close(row[task], gradient)


def test_training_reaches_every_parameter(variant):
    network = make(variant)
    loss(network, batches(20, 20, 20)).backward()
    unreached = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached


def test_weights_travel_without_pickle(variant):
    network, other = make(variant, seed=0), make(variant, seed=1)
    network(batches(4, 4, 4))  # moves what training keeps: covariances, a generator
    other.load_state_dict(load(save(network.state_dict())))
    one, two = network(batches(3, 5, 7)), other(batches(3, 5, 7))
    for a, b in zip(one.predictions, two.predictions, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(one.penalty, two.penalty)


def test_a_copy_goes_its_own_way(variant):
    network = make(variant).eval()
    before = network(batches(3, 3, 3)).predictions[0]
    twin = copy.deepcopy(network)
    assert torch.equal(twin(batches(3, 3, 3)).predictions[0], before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(network(batches(3, 3, 3)).predictions[0], before)


def test_a_seed_says_all_and_the_global_generator_is_left_alone(variant):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, two, three = make(variant, seed=3), make(variant, seed=3), make(variant, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    inputs = batches(3, 3, 3)
    first, second, third = (network(inputs).predictions[0] for network in (one, two, three))
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), state)


def test_configs_survive_json(variant):
    config = make(variant).config
    assert type(config)(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_networks_learn_what_tasks_have_in_common(variant):
    network = make(variant)
    inputs = batches(60, 60, 60)
    direction = torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0, 1.0])
    values = [x @ direction for x in inputs]
    labels = [values[0], (values[1] > 0).float(), (values[2] > 0).long() * 2]
    functions = torch.nn.functional
    adam = torch.optim.Adam(network.parameters(), lr=0.03)

    def losses():
        answers = network(inputs)
        return answers.penalty, torch.stack(
            [
                functions.mse_loss(answers.predictions[0][:, 0], labels[0]),
                functions.binary_cross_entropy_with_logits(answers.predictions[1][:, 0], labels[1]),
                functions.cross_entropy(answers.predictions[2], labels[2]),
            ]
        )

    first = losses()[1].detach()
    for _ in range(45):
        penalty, each = losses()
        adam.zero_grad()
        (penalty + each.sum()).backward()
        adam.step()
    network.eval()
    assert (losses()[1].detach() < 0.4 * first).all()


def test_one_task_alone_is_a_case_too(variant):
    name, fields = variant
    shape = TasksShape(6, ("binary",), (1,), ((1.0,),))
    predictions, penalty = make_architecture(name, shape, **fields)(batches(4))
    assert predictions[0].shape == (4, 1) and torch.isfinite(penalty)


@pytest.mark.parametrize(
    "inputs",
    [batches(3, 3), batches(3, 3, 3, 3), [torch.zeros(3, 5)] * 3, [torch.zeros(6)] * 3],
    ids=["too few tasks", "too many tasks", "other features", "no batch axis"],
)
def test_other_batches_are_refused(variant, inputs):
    with pytest.raises(InvalidArgumentError):
        make(variant)(inputs)


def test_names_and_fields_that_do_not_exist_get_a_suggestion():
    with pytest.raises(InvalidArgumentError, match="Did you mean 'cross_stitch'"):
        make_architecture("crossstitch", SHAPE)
    with pytest.raises(InvalidArgumentError, match="Did you mean 'widths'"):
        make_architecture("hard", SHAPE, width=(3,))
    with pytest.raises(InvalidArgumentError, match="not both"):
        make_architecture("hard", SHAPE, Widths(), widths=(3,))
    with pytest.raises(InvalidArgumentError, match="SoftConfig"):
        make_architecture("soft", SHAPE, Widths())


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("hard", {"widths": ()}),
        ("hard", {"widths": (0,)}),
        ("hard", {"widths": 64}),
        ("hard", {"widths": (2.5,)}),
        ("soft", {"strength": -1.0}),
        ("soft", {"strength": float("nan")}),
        ("soft", {"strength": "much"}),
        ("soft", {"distance": "median"}),
        ("shared_private", {"private_widths": ()}),
        ("shared_private", {"adversary": -0.1}),
        ("shared_private", {"orthogonality": True}),
        ("cross_stitch", {"same": 1.5}),
        ("mmoe", {"experts": 0}),
        ("deep_relationship", {"shrinkage": 0.0}),
        ("deep_relationship", {"update_every": 0}),
        ("deep_relationship", {"task_widths": ()}),
        ("deep_relationship", {"covariances": "none"}),
        ("conditioned", {"how": "telepathy"}),
        ("multi_source", {"drop_sources": 1.0}),
        ("multi_source", {"sources": (2, 3)}),
        ("multi_source", {"sources": (6, 0)}),
    ],
)
def test_values_that_cannot_work_are_refused(name, fields):
    with pytest.raises(InvalidArgumentError):
        make_architecture(name, SHAPE, **fields)
