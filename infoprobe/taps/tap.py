"""All that is put on one model to learn of its calls, and taken off again together."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from infoprobe.taps.calls import Calls, Sink
from infoprobe.taps.compiled import suspension
from infoprobe.taps.layers import Layer, all_layers
from infoprobe.taps.module import ModuleTap


class Tap:
    """Tells a sink of the calls in a model until it is removed."""

    def __init__(self, model: nn.Module, layers: Sequence[Layer], sink: Sink) -> None:
        everything = all_layers(model)
        self._calls = Calls(sink, taken={layer.name for layer in everything})
        self._modules = ModuleTap(model, layers, everything, self._calls)
        suspension.begin()
        self.attached = True

    def remove(self) -> None:
        """Takes everything off the model again."""
        if self.attached:
            self.attached = False
            self._modules.remove()
            self._calls.close()
            suspension.end()
