"""All that is put on one model to learn of its calls, and taken off again together."""

from __future__ import annotations

from torch import nn

from infoprobe.taps.calls import Calls
from infoprobe.taps.inputs import Inputs
from infoprobe.taps.layout import Layout
from infoprobe.taps.method_hooks import MethodTap
from infoprobe.taps.module_hooks import ModuleTap
from infoprobe.taps.sink import Sink
from infoprobe.taps.transform_hooks import TransformTap


class Tap:
    """Tells a sink of the calls in a model until it is removed.

    Arguments:
        layout: The model, with its chosen layers.
        sink: The sink that is told.
        given: Finds the input among what the model is given.

    Attributes:
        attached: Whether the tap has not been removed.
    """

    def __init__(self, layout: Layout, sink: Sink, given: Inputs) -> None:
        paths = {
            layer.module: layer.prefix
            for layer in layout.layers
            if layer.end is None and isinstance(layer.module, nn.Module)
        }
        self._calls = Calls(sink, paths, taken={layer.name for layer in layout.layers})
        transforms = TransformTap(self._calls)
        self._modules: ModuleTap | None = None
        self._taps: list[ModuleTap | MethodTap | TransformTap] = [transforms]
        try:
            if isinstance(layout.model, nn.Module):
                self._modules = ModuleTap(layout, self._calls, transforms, given)
                self._taps.append(self._modules)
                self._taps.append(MethodTap(layout, self._calls))
            else:
                for layer in layout.layers:
                    transforms.listen(layer.module, layer.prefix, layout.place(layer))
        except BaseException:
            self._detach()
            raise
        self.attached: bool = True

    def _detach(self) -> None:
        self._modules = None
        while self._taps:
            self._taps.pop().remove()

    def follow(self) -> None:
        """Must be called when the sink decides anew which passes it measures."""
        if self.attached and self._modules is not None:
            self._modules.follow()

    def remove(self) -> None:
        """Takes everything off the model again."""
        if self.attached:
            self.attached = False
            self._detach()
            self._calls.close()
