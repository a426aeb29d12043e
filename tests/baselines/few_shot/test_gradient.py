"""Gradient-based meta-learners: meta-gradients against finite differences and explicit algebra."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call

from metagym.baselines.few_shot import TaskShape, make_method
from metagym.baselines.few_shot.base import per_task_loss
from metagym.baselines.few_shot.functional import choose, known_gradient, map_tasks, meta_objective
from metagym.baselines.few_shot.networks import MLP, Conv4
from metagym.errors import InvalidArgumentError
from metagym.tasks.few_shot import Tasks

REGRESSION = TaskShape("regression", (2,), 1, 5)
VECTORS = TaskShape("classification", (3,), 3, 6)
IMAGES = TaskShape("classification", (16, 16), 3, 6)
NAMES = ("maml", "fomaml", "anil", "meta_sgd", "maml_plus_plus", "reptile", "joint")


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _tasks(shape, count=3, queries=4, seed=0):
    generator = _generator(seed)

    def part(size):
        x = torch.randn(count, size, *shape.input_shape, generator=generator).double()
        if shape.kind == "regression":
            return x, torch.randn(count, size, shape.outputs, generator=generator).double()
        return x, (torch.arange(size) % shape.outputs).expand(count, size)

    return Tasks(*part(shape.support), *part(queries))


def _method(name, shape=REGRESSION, **fields):
    small = {"hidden": (6,), "filters": 4, "inner_lr": 0.25, **fields}
    return make_method(name, shape, **small).double()


def _gradient(method, tasks):
    method.zero_grad()
    method.meta_loss(tasks, _generator())[0].backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in method.named_parameters()
    }


def _finite_differences(method, tasks, width=1e-6):
    """Central differences of the meta-loss by every single number that is meta-learned."""
    gradients = {}
    for name, parameter in method.named_parameters():
        flat, gradient = parameter.detach().view(-1), torch.zeros(parameter.numel()).double()
        for i in range(len(flat)):
            kept = flat[i].item()
            sides = []
            for sign in (1.0, -1.0):
                flat[i] = kept + sign * width
                sides.append(method.meta_loss(tasks, _generator())[0].item())
            flat[i] = kept
            gradient[i] = (sides[0] - sides[1]) / (2.0 * width)
        gradients[name] = gradient.view_as(parameter)
    return gradients


def _assert_equal(one, two, **tolerance):
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], msg=lambda m, n=name: f"{n}: {m}",
                                   **tolerance)  # fmt: skip


# -- meta-gradients ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [REGRESSION, VECTORS])
@pytest.mark.parametrize("name", ["maml", "anil", "meta_sgd", "maml_plus_plus"])
def test_second_order_meta_gradients_are_those_of_finite_differences(name, shape):
    method = _method(name, shape, inner_steps=2)
    tasks = _tasks(shape)
    expected = _finite_differences(method, tasks)
    _assert_equal(_gradient(method, tasks), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("norm", ["batch", "support"])
def test_convolutions_have_the_right_meta_gradient_too(norm):
    method = _method("maml", IMAGES, filters=2, norm=norm)
    tasks = _tasks(IMAGES, count=1)
    meant = _gradient(method, tasks)
    direction = {n: torch.randn_like(p) for n, p in method.named_parameters()}
    losses = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            for name, parameter in method.named_parameters():
                parameter += sign * 1e-6 * direction[name]
        losses.append(method.meta_loss(tasks, _generator())[0].item())
        with torch.no_grad():
            for name, parameter in method.named_parameters():
                parameter -= sign * 1e-6 * direction[name]
    slope = sum((meant[name] * direction[name]).sum() for name in meant).item()
    assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_first_order_maml_leaves_exactly_the_hessian_term_away():
    """With H the support Hessian: g_MAML = (I - α H) g_FOMAML, H by plain double autograd."""
    rate, tasks = 0.3, _tasks(REGRESSION, count=1)
    full, first = (_method(name, inner_lr=rate) for name in ("maml", "fomaml"))
    first.load_state_dict(full.state_dict())
    shapes = {n: p.shape for n, p in full.network.named_parameters()}

    def support_loss(flat):
        pieces = flat.split([s.numel() for s in shapes.values()])
        params = {n: x.view(s) for (n, s), x in zip(shapes.items(), pieces, strict=True)}
        outputs = functional_call(full.network, params, (tasks.support_x[0],))
        return per_task_loss("regression", outputs, tasks.support_y[0])

    start = torch.cat([p.detach().view(-1) for p in full.network.parameters()])
    hessian = torch.autograd.functional.hessian(support_loss, start)
    g_full, g_first = (
        torch.cat([g.view(-1) for g in _gradient(method, tasks).values()])
        for method in (full, first)
    )
    torch.testing.assert_close(g_full, g_first - rate * hessian @ g_first, rtol=1e-9, atol=1e-12)
    assert (g_full - g_first).norm() > 0.01 * g_full.norm()


def test_first_order_maml_is_the_query_gradient_at_the_adapted_weights():
    method, tasks = _method("fomaml", inner_steps=3), _tasks(REGRESSION)
    expected = {n: torch.zeros_like(p) for n, p in method.named_parameters()}
    for sx, sy, qx, qy in zip(*tasks, strict=True):
        learner = method.clone()
        for _ in range(3):
            learner.adapt(per_task_loss("regression", learner(sx), sy))
        loss = per_task_loss("regression", learner(qx), qy)
        for name, gradient in zip(
            expected, torch.autograd.grad(loss, list(learner.parameters())), strict=True
        ):
            expected[name] += gradient / 3
    _assert_equal(_gradient(method, tasks), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [REGRESSION, VECTORS, IMAGES])
@pytest.mark.parametrize("name", NAMES)
def test_vmap_chunks_and_the_loop_give_the_same_numbers(name, shape):
    tasks, results = _tasks(shape), []
    for how in ("loop", "vmap", "chunk"):
        method = _method(name, shape, over_tasks=how, chunk=2)
        loss, numbers = method.meta_loss(tasks, _generator())
        numbers = {k: v.double() for k, v in numbers.items()} | {"value": loss.detach()}
        predictions = {"predictions": method.predict(tasks, steps=2)}
        results.append({**numbers, **_gradient(method, tasks), **predictions})
    for other in results[1:]:
        _assert_equal(results[0], other, rtol=1e-10, atol=1e-10)


# -- what each method adapts -------------------------------------------------------------------


def test_anil_adapts_the_head_only_and_trains_everything():
    method, tasks = _method("anil", VECTORS, inner_steps=3), _tasks(VECTORS)
    *_, adapted = method.descent(tasks.support_x[0], tasks.support_y[0], 3)
    for name, start in method.initial_parameters().items():
        assert torch.equal(adapted[name], start) is not name.startswith("head.")
    assert all(gradient.abs().sum() > 0 for gradient in _gradient(method, tasks).values())


def test_meta_sgd_starts_as_maml_and_its_rates_get_the_formula_s_gradient():
    """For one step, dL/dα = -∇L_query(θ') ∘ ∇L_support(θ), coordinate by coordinate."""
    tasks = _tasks(REGRESSION, count=1)
    maml, method = _method("maml"), _method("meta_sgd")
    torch.testing.assert_close(maml.predict(tasks), method.predict(tasks))
    gradients = _gradient(method, tasks)
    learner = maml.clone()
    loss = per_task_loss("regression", learner(tasks.support_x[0]), tasks.support_y[0])
    at_start = torch.autograd.grad(loss, list(learner.parameters()), create_graph=True)
    learner.adapt(loss)
    loss = per_task_loss("regression", learner(tasks.query_x[0]), tasks.query_y[0])
    at_end = torch.autograd.grad(loss, list(learner.parameters()))
    for i, (g, h) in enumerate(zip(at_start, at_end, strict=True)):
        torch.testing.assert_close(gradients[f"learned_rates.{i}"], -g * h, rtol=1e-9, atol=1e-12)


def test_maml_plus_plus_moves_its_weight_to_the_last_step_and_anneals_the_order():
    method = _method("maml_plus_plus", inner_steps=4, multi_step_share=0.5, first_order_share=0.3)
    method.progress = 0.0
    assert method.step_weights() == pytest.approx([0.25] * 4)
    assert method.first_order
    lasts = []
    for method.progress in (0.0, 0.2, 0.4, 0.6, 1.0):
        weights = method.step_weights()
        assert sum(weights) == pytest.approx(1.0)
        lasts.append(weights[-1])
    assert lasts == sorted(lasts)
    assert lasts[-1] == lasts[-2] > 0.97
    assert not method.first_order


def test_maml_plus_plus_with_nothing_to_learn_but_the_last_step_is_maml():
    tasks, maml = _tasks(REGRESSION), _method("maml", inner_steps=1)
    method = _method("maml_plus_plus", inner_steps=1)
    torch.testing.assert_close(
        method.meta_loss(tasks, _generator())[0], maml.meta_loss(tasks, _generator())[0]
    )


# -- Reptile -----------------------------------------------------------------------------------


def test_reptile_of_one_step_is_joint_training():
    tasks = _tasks(REGRESSION)
    reptile = _method("reptile", inner_steps=1, minibatch=None, inner_lr=0.05)
    joint = _method("joint")
    expected = {name: 0.05 * g for name, g in _gradient(joint, tasks).items()}
    _assert_equal(_gradient(reptile, tasks), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_reptile_moves_towards_what_an_ordinary_optimizer_ends_at(optimizer):
    tasks = _tasks(REGRESSION, count=2)
    method = _method(
        "reptile", inner_steps=4, minibatch=None, inner_lr=0.01, inner_optimizer=optimizer
    )
    moved = {name: torch.zeros_like(p) for name, p in method.named_parameters()}
    for sx, sy, qx, qy in zip(*tasks, strict=True):
        copy = _method("joint")
        copy.load_state_dict(method.state_dict())
        inner = (
            torch.optim.SGD(copy.parameters(), lr=0.01)
            if optimizer == "sgd"
            else torch.optim.Adam(copy.parameters(), lr=0.01, betas=(0.0, 0.999))
        )
        for _ in range(4):
            inner.zero_grad()
            outputs = copy.network(torch.cat([sx, qx]))
            per_task_loss("regression", outputs, torch.cat([sy, qy])).backward()
            inner.step()
        for name, end in copy.named_parameters():
            moved[name] += (dict(method.named_parameters())[name] - end).detach() / 2
    _assert_equal(_gradient(method, tasks), moved, rtol=1e-8, atol=1e-12)


def test_reptile_draws_minibatches_without_replacement_from_the_generator_it_is_given():
    method = _method("reptile", inner_steps=3, minibatch=4)
    rows = method._minibatches(2, 9, _generator(3))
    assert rows.shape == (2, 3, 4)
    assert all(len(set(batch.tolist())) == 4 for batch in rows.flatten(0, 1))
    assert torch.equal(rows, method._minibatches(2, 9, _generator(3)))
    assert not torch.equal(rows, method._minibatches(2, 9, _generator(4)))


# -- predictions -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_predictions_carry_no_gradient_read_no_answers_and_can_be_had_step_by_step(name):
    method, tasks = _method(name, VECTORS, test_steps=2), _tasks(VECTORS)
    path = method.predict_path(tasks, 3)
    assert path.shape == (4, 3, 4, 3)
    assert not path.requires_grad
    torch.testing.assert_close(method.predict(tasks), path[2])
    torch.testing.assert_close(method.predict(tasks, steps=3), path[3])
    blind = tasks._replace(query_y=1 - tasks.query_y)
    torch.testing.assert_close(method.predict(blind), path[2])
    alone = Tasks(*(tensor[1:2] for tensor in tasks))
    torch.testing.assert_close(method.predict(alone)[0], path[2, 1])


def test_steps_lower_the_loss_of_the_support_set():
    method, tasks = _method("maml", inner_lr=0.05), _tasks(REGRESSION)
    same = tasks._replace(query_x=tasks.support_x, query_y=tasks.support_y)
    path = method.predict_path(same, 5)
    losses = per_task_loss("regression", path, same.query_y).mean(1)
    assert bool((losses.diff() < 0).all())


def test_a_negative_number_of_steps_is_refused():
    method = _method("maml")
    with pytest.raises(InvalidArgumentError, match="steps=-1"):
        method.predict(_tasks(REGRESSION), steps=-1)


# -- the core ----------------------------------------------------------------------------------


def test_auto_is_vmap_but_for_convolutions_on_a_cpu():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    mlp, strided, pooled = MLP(2, 3), Conv4((28, 28), 3), Conv4((28, 28), 3, pooling="max")
    assert [choose("auto", cpu, net.on_cpu) for net in (mlp, strided, pooled)] == [
        "vmap", "chunk", "loop",
    ]  # fmt: skip
    assert {choose("auto", gpu, net.on_cpu) for net in (mlp, strided, pooled)} == {"vmap"}
    assert choose("chunk", cpu, mlp.on_cpu) == "chunk"
    with pytest.raises(InvalidArgumentError, match="over_tasks"):
        choose("vmpa", cpu, mlp.on_cpu)


def test_maps_take_trees_and_refuse_an_empty_batch():
    def function(x, y):
        return {"sum": x + y, "pair": (x, 2.0 * y)}

    x, y = torch.arange(5.0), torch.ones(5)
    for how in ("vmap", "chunk", "loop"):
        result = map_tasks(function, (x, y), how, chunk=2)
        torch.testing.assert_close(result["sum"], x + 1.0)
        torch.testing.assert_close(result["pair"][1], 2.0 * y)
    with pytest.raises(InvalidArgumentError, match="at least one task"):
        meta_objective(function, (x[:0], y[:0]), [], "vmap")


def test_a_known_gradient_is_given_as_it_is():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = known_gradient(torch.tensor(7.0), [weight], [torch.tensor([3.0, -4.0])])
    loss.backward()
    assert loss.item() == 7.0
    assert weight.grad.tolist() == [3.0, -4.0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("how", ["vmap", "chunk", "loop"])
def test_a_gpu_gives_the_numbers_of_the_cpu(how):
    tasks, results = _tasks(IMAGES), []
    for device in ("cpu", "cuda"):
        method = _method("maml", IMAGES, over_tasks=how).to(device)
        results.append(_gradient(method, Tasks(*(tensor.to(device) for tensor in tasks))))
    _assert_equal(results[0], {n: g.cpu() for n, g in results[1].items()}, rtol=1e-7, atol=1e-9)
