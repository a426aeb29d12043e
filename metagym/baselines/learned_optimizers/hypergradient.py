"""Exact validation gradients through a whole training run, for all its hyperparameters at once.

The run is SGD with momentum in the form of Maclaurin, Duvenaud and Adams (2015), algorithm 1:

    g_t = dL_t/dw + λ_l w,   v <- γ_t v - (1 - γ_t) g_t,   w <- w + α_t v,   w_0 = σ_l w_init

and its hyperparameters are a learning rate α_t and a momentum γ_t per step, a scale σ_l of the
initial values and a weight decay λ_l per tensor ("layer"). The gradient of the validation loss
of w_T with respect to all of them is the reverse chain through the T steps: each is a
vector-Jacobian product, second derivatives included.

They reversed the run in exact arithmetic to save memory. Here the run is computed a second time
instead: about sqrt(T) states are kept on the way forward, and the steps between two of them are
repeated on the way back. At most 2 ceil(sqrt T) + 2 states are held at any moment, for twice the
forward computation, and nothing depends on rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from metagym.errors import InvalidArgumentError, check_above_zero, check_positive

Params = dict[str, torch.Tensor]
TrainLoss = Callable[[Params, int], torch.Tensor]
Loss = Callable[[Params], torch.Tensor]
State = tuple[Params, Params]  # w and v
Settings = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # log α_t, logit γ_t, log λ [L]


@dataclass(frozen=True)
class Hyperparameters:
    """What a run is told; each field is differentiated.

    They are stored without constraints, so that any optimiser can move them: rates, scales and
    decays as logarithms, momenta as logits.

    Attributes:
        log_rates: log α_t [T].
        momentum_logits: logit γ_t [T].
        log_scales: log σ [L], one per tensor of the parameters, in their order.
        log_decays: log λ [L].
    """

    log_rates: torch.Tensor
    momentum_logits: torch.Tensor
    log_scales: torch.Tensor
    log_decays: torch.Tensor

    @classmethod
    def constant(
        cls,
        initial: Params,
        steps: int,
        *,
        rate: float = 0.1,
        momentum: float = 0.9,
        scale: float = 1.0,
        decay: float = 1e-4,
    ) -> Hyperparameters:
        """The same for all steps and tensors, in the dtype and on the device of ``initial``.

        Raises:
            InvalidArgumentError: there are no parameters, or a number is out of its range: all
                are above 0, and ``momentum`` is below 1.
        """
        check_positive("steps", steps)
        if not initial:
            raise InvalidArgumentError("initial holds no tensor; there is nothing to train.")
        for name, value in (("rate", rate), ("scale", scale), ("decay", decay)):
            check_above_zero(name, value)
        if not 0.0 < momentum < 1.0:
            raise InvalidArgumentError(f"momentum={momentum!r} has to lie between 0 and 1.")
        like = next(iter(initial.values()))
        layers = len(initial)
        return cls(
            like.new_full((steps,), math.log(rate)),
            like.new_full((steps,), math.log(momentum / (1.0 - momentum))),
            like.new_full((layers,), math.log(scale)),
            like.new_full((layers,), math.log(decay)),
        )

    @property
    def steps(self) -> int:
        """T."""
        return len(self.log_rates)

    def tensors(self) -> Params:
        """The fields by name."""
        return dict(vars(self))


@dataclass
class Hypergradient:
    """What ``differentiate_training`` found.

    Attributes:
        value: the validation loss of the trained parameters, a scalar.
        gradient: its derivatives, of the shapes of the hyperparameters.
        parameters: the trained parameters.
        training_losses: L_t before each step [T], without weight decay.
        most_states: the largest number of (w, v) pairs that were held at once.
    """

    value: torch.Tensor
    gradient: Hyperparameters
    parameters: Params
    training_losses: torch.Tensor
    most_states: int


@torch.enable_grad()
def differentiate_training(
    train_loss: TrainLoss,
    validation_loss: Loss,
    initial: Params,
    hyperparameters: Hyperparameters,
    *,
    segment: int | None = None,
) -> Hypergradient:
    """Train, and differentiate the validation loss with respect to every hyperparameter.

    Args:
        train_loss: ``train_loss(params, t)`` -> scalar, the loss on the minibatch of step t. It is
            called twice with the same t and has to answer the same: draw minibatches beforehand,
            or from a generator that t seeds. Autograd has to differentiate it twice
            (``torch.func.functional_call`` of any module can be).
        validation_loss: ``validation_loss(params)`` -> scalar.
        initial: the parameters before scaling, by name.
        hyperparameters: of T steps and as many tensors as ``initial``.
        segment: steps between two kept states; ceil(sqrt(T)) by default.

    Raises:
        InvalidArgumentError: shapes do not fit, or the run diverges (its validation loss is not
            finite, so that there is no gradient).
    """
    _check(initial, hyperparameters)
    steps = hyperparameters.steps
    length = math.ceil(math.sqrt(steps)) if segment is None else check_positive("segment", segment)
    given = {name: value.detach() for name, value in hyperparameters.tensors().items()}
    initial = {name: value.detach() for name, value in initial.items()}
    held = _Counter()

    def start(log_scales: torch.Tensor) -> Params:
        return {k: log_scales[i].exp() * w for i, (k, w) in enumerate(initial.items())}

    def settings(t: int) -> Settings:
        return given["log_rates"][t], given["momentum_logits"][t], given["log_decays"]

    def advance(state: State, t: int) -> tuple[State, torch.Tensor]:
        after, loss = _step(train_loss, _tracked(state[0]), state[1], settings(t), t)
        return after, loss.detach()

    with torch.no_grad():
        w = start(given["log_scales"])
    state = (w, {k: torch.zeros_like(value) for k, value in w.items()})
    kept = {}
    losses = []
    for t in range(steps):
        if t % length == 0:
            kept[t] = state
            held.saw(len(kept) + 1)
        state, loss = advance(state, t)
        losses.append(loss)
    trained = state[0]

    end = _tracked(trained)
    value = validation_loss(end)
    if not torch.isfinite(value):
        raise InvalidArgumentError(
            f"The run of {steps} steps ends with the validation loss {float(value.detach())}: it "
            "diverged, and has no gradient. Start from smaller learning rates."
        )
    slopes = [*_gradient([value], list(end.values())), *map(torch.zeros_like, end.values())]
    del end
    found = {name: torch.zeros_like(tensor) for name, tensor in given.items()}
    for first in sorted(kept, reverse=True):
        states = [kept.pop(first)]
        last = min(first + length, steps) - 1
        for t in range(first, last):
            states.append(advance(states[-1], t)[0])
        held.saw(len(kept) + len(states) + 2)  # the trained parameters, and the adjoint
        for t in range(last, first - 1, -1):
            *slopes, rate, logit, decays = _pull_back(
                train_loss, states.pop(), settings(t), t, slopes
            )
            found["log_rates"][t], found["momentum_logits"][t] = rate, logit
            found["log_decays"] += decays
    slope_w = dict(zip(trained, slopes, strict=False))
    for i, (name, w_0) in enumerate(start(given["log_scales"]).items()):
        found["log_scales"][i] = (w_0 * slope_w[name]).sum()
    return Hypergradient(
        value.detach(), Hyperparameters(**found), trained, torch.stack(losses), held.most
    )


@dataclass
class HyperOptimization:
    """What ``optimize_hyperparameters`` found.

    Attributes:
        best: the hyperparameters with the lowest validation loss.
        values: the validation loss before each step, those of diverged runs infinite.
    """

    best: Hyperparameters
    values: list[float] = field(default_factory=list)


def optimize_hyperparameters(
    train_loss: TrainLoss,
    validation_loss: Loss,
    initial: Params | Callable[[int], Params],
    hyperparameters: Hyperparameters,
    *,
    meta_steps: int = 50,
    learning_rate: float = 0.05,
    report: Callable[[int, float], None] | None = None,
) -> HyperOptimization:
    """Adam on all hyperparameters at once, a whole training run per step.

    Where a run diverges, there is no gradient; the learning rates are halved instead.

    Args:
        train_loss, validation_loss: as in ``differentiate_training``.
        initial: the parameters, or ``initial(i)`` for those of meta-step i, so that what is found
            does not belong to one start.
        hyperparameters: where to begin; they are not changed.
        meta_steps: how many training runs.
        learning_rate: of Adam, in the logarithms and logits.
        report: called with the meta-step and its validation loss.
    """
    check_positive("meta_steps", meta_steps)
    check_above_zero("learning_rate", learning_rate)
    tensors = {k: v.detach().clone().requires_grad_() for k, v in hyperparameters.tensors().items()}
    optimizer = torch.optim.Adam(tensors.values(), lr=learning_rate)
    found = HyperOptimization(hyperparameters)
    for i in range(meta_steps):
        start = initial(i) if callable(initial) else initial
        now = Hyperparameters(**{k: v.detach().clone() for k, v in tensors.items()})
        try:
            result = differentiate_training(train_loss, validation_loss, start, now)
        except InvalidArgumentError:
            if i == 0:
                raise
            found.values.append(math.inf)
            with torch.no_grad():
                tensors["log_rates"] -= math.log(2.0)
            continue
        value = float(result.value)
        if value <= min(found.values, default=math.inf):
            found.best = now
        found.values.append(value)
        for name, gradient in result.gradient.tensors().items():
            tensors[name].grad = gradient
        optimizer.step()
        if report is not None:
            report(i, value)
    return found


def _step(
    train_loss: TrainLoss, w: Params, v: Params, settings: Settings, t: int, *, twice: bool = False
) -> tuple[State, torch.Tensor]:
    """One step from (w, v), and the loss before it; ``twice``: as a graph to differentiate."""
    rate, logit, decays = settings
    loss = train_loss(w, t)
    slopes = _gradient([loss], list(w.values()), create_graph=twice)
    with torch.set_grad_enabled(twice):
        momentum, decay = logit.sigmoid(), decays.exp()
        v = {
            k: momentum * v[k] - (1.0 - momentum) * (slope + decay[i] * w[k])
            for i, (k, slope) in enumerate(zip(w, slopes, strict=True))
        }
        return ({k: w[k] + rate.exp() * v[k] for k in w}, v), loss


def _pull_back(
    train_loss: TrainLoss, state: State, settings: Settings, t: int, slopes: list[torch.Tensor]
) -> list[torch.Tensor]:
    """From the slopes of (w, v) after step t: those of (w, v) before it, and of its settings."""
    w, v = map(_tracked, state)
    rate, logit, decays = (tensor.detach().requires_grad_() for tensor in settings)
    after, _ = _step(train_loss, w, v, (rate, logit, decays), t, twice=True)
    outputs = [tensor for part in after for tensor in part.values()]
    inputs = [*w.values(), *v.values(), rate, logit, decays]
    return _gradient(outputs, inputs, slopes)


def _gradient(
    outputs: list[torch.Tensor],
    inputs: list[torch.Tensor],
    weights: list[torch.Tensor] | None = None,
    *,
    create_graph: bool = False,
) -> list[torch.Tensor]:
    return list(
        torch.autograd.grad(
            outputs, inputs, weights, create_graph=create_graph, materialize_grads=True
        )
    )


def _tracked(params: Params) -> Params:
    return {k: value.detach().requires_grad_() for k, value in params.items()}


class _Counter:
    """The most states that were held at once."""

    def __init__(self) -> None:
        self.most = 0

    def saw(self, states: int) -> None:
        self.most = max(self.most, states)


def _check(initial: Params, hyperparameters: Hyperparameters) -> None:
    steps, layers = hyperparameters.steps, len(initial)
    wanted = {
        "log_rates": (steps,), "momentum_logits": (steps,),
        "log_scales": (layers,), "log_decays": (layers,),
    }  # fmt: skip
    if steps == 0 or layers == 0:
        raise InvalidArgumentError(f"A run needs steps and parameters; got {steps} and {layers}.")
    for name, shape in wanted.items():
        found = tuple(hyperparameters.tensors()[name].shape)
        if found != shape:
            raise InvalidArgumentError(
                f"{name} has the shape {found}; {steps} steps of {layers} tensors need {shape}."
            )
