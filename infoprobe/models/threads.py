"""How many threads of the processor a training should use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

# About what one thread computes in the time that a scheduler lets a program run, 4 ms.
_SMALL = 2e8


@contextlib.contextmanager
def suitable_threads(
    model: nn.Module, loss: Callable[[Tensor], Tensor], x: Tensor, batch_size: int
) -> Iterator[None]:
    """A ``with`` block in which small models run on one thread of the processor.

    Threads wait for each other after every layer. If another program takes a core away, each of
    these waits lasts until the scheduler gives it back, and a network of small layers becomes 15
    to 20 times slower than on one thread. The choice depends on the model and the sizes alone,
    so that a training that is repeated or resumed gives the same bits.

    Arguments:
        model: The model. Its state, its mode and the random state are left as they were.
        loss: The loss of the model as a function of images.
        x: A few images, (m, C, H, W), in the precision and on the device of the model.
        batch_size: The number of images in a step.
    """
    threads = torch.get_num_threads()
    if x.device.type != "cpu" or threads == 1:
        yield
        return
    if _operations_of_a_layer(model, loss, x) * batch_size < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _operations_of_a_layer(model: nn.Module, loss: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """The mean number of operations of a layer with weights, for one image."""
    from torch.utils.flop_counter import FlopCounterMode  # importing it takes time

    modes = {module: module.training for module in model.modules()}
    counter = FlopCounterMode(display=False)
    model.eval()  # in which neither statistics nor random numbers move
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), counter:
            loss(x)
    finally:
        for module, training in modes.items():
            module.training = training
    layers = sum(any(True for _ in m.parameters(recurse=False)) for m in modes)
    return counter.get_total_flops() / (len(x) * max(1, layers))
