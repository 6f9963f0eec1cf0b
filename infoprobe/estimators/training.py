"""Networks that are trained in passing: their layers, weights and batches, and the training."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from infoprobe.progress import progress_bar

_generator: ContextVar[torch.Generator | None] = ContextVar("generator", default=None)


def linear_layer(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer in float32 on the CPU, whatever the user's defaults.

    Its weights are those of torch, but drawn from the generator of :func:`drawing_weights`.
    """
    layer = nn.Linear(inputs, outputs, device="meta", dtype=torch.float32).to_empty(device="cpu")
    bound = 1 / math.sqrt(inputs)
    for parameter in (layer.weight, layer.bias):
        nn.init.uniform_(parameter, -bound, bound, generator=_generator.get())
    return layer


@contextlib.contextmanager
def drawing_weights(seed: int) -> Iterator[None]:
    """A ``with`` block in which weights to be trained are drawn from a generator of their own.

    The global one may be in use in another thread.
    """
    before = _generator.set(torch.Generator("cpu").manual_seed(seed))
    try:
        with torch.inference_mode(False):
            yield
    finally:
        _generator.reset(before)


def batches_of(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of ``n`` samples in batches without end, in a new order each time."""
    size = min(size, n)
    while True:
        order = torch.randperm(n, generator=generator, device="cpu")
        yield from torch.split(order, size)[: n // size]


def require_converging(likelihood: float, step: int, learning_rate: float) -> float:
    """The likelihood of the samples that decide when to stop, if it is finite.

    Raises:
        FloatingPointError: It is not.
    """
    if not math.isfinite(likelihood):
        raise FloatingPointError(
            f"the likelihood of the stopping samples became {likelihood} at step {step:,}: "
            f"training diverged. Pass a lower learning_rate than {learning_rate}."
        )
    return likelihood


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[], Tensor],
    score: Callable[[int], float],
    *,
    steps: int,
    check_every: int,
    patience: float,
    learning_rate: Callable[[int, float], float],
    spent: Callable[[], float] = lambda: 0.0,
    name: str,
    progress: bool,
) -> float:
    """Trains a network, and leaves it with the weights of the best score.

    Arguments:
        network: What is trained.
        optimizer: Changes its parameters by their gradients.
        loss: Takes the next batch and returns what the step is to lower, a 0-dim tensor.
        score: How good the weights are at a step, greater for better; raises an error where
            training diverged. It is asked without gradients.
        steps: The most training steps.
        check_every: The steps from one score to the next.
        patience: The steps without a better score after which training ends.
        learning_rate: The learning rate of a step, from its number and the part of training that
            is done, in [0, 1].
        spent: The part of the time allowed for training that has passed; training ends at 1.
        name: What the progress bar calls it.
        progress: Whether to show a progress bar even if the caller of the function did not ask.

    Returns:
        The best score.
    """
    best, best_step, weights = -math.inf, 0, network.state_dict()
    with progress_bar(steps, name, shown=progress) as bar:
        for step in range(steps + 1):
            done = max(step / steps, spent())
            if step % check_every == 0 or done >= 1:
                with torch.no_grad():
                    current = score(step)
                if current > best:
                    best, best_step = current, step
                    weights = copy.deepcopy(network.state_dict())
                bar.set_postfix(score=f"{current:.4f}", best=f"{best:.4f}")
                if done >= 1 or step - best_step >= patience:
                    break
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, done)
            optimizer.zero_grad()
            with torch.enable_grad():
                lowered = loss()
            torch.autograd.backward(lowered)
            optimizer.step()
            bar.update()
    network.load_state_dict(weights)
    return best
