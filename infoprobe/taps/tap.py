"""All that is put on one model to learn of its calls, and taken off again together."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from torch import nn

from infoprobe.taps.calls import Calls
from infoprobe.taps.compiled import suspension
from infoprobe.taps.layout import MODEL, Layer, all_layers
from infoprobe.taps.method_hooks import InverseTap
from infoprobe.taps.module_hooks import ModuleTap
from infoprobe.taps.sink import Place, Sink
from infoprobe.taps.transform_hooks import TransformTap


class Tap:
    """Tells a sink of the calls in a model until it is removed."""

    def __init__(self, model: Any, layers: Sequence[Layer], sink: Sink) -> None:
        everything = all_layers(model)
        paths = {
            layer.module: "" if layer.name == MODEL else layer.name
            for layer in everything
            if layer.end is None and isinstance(layer.module, nn.Module)
        }
        self._calls = Calls(sink, paths, taken={layer.name for layer in everything})
        transforms = TransformTap(self._calls)
        self._taps: list[ModuleTap | InverseTap | TransformTap] = [transforms]
        try:
            if isinstance(model, nn.Module):
                self._taps.append(ModuleTap(model, layers, everything, self._calls, transforms))
                self._taps.append(InverseTap(model, layers, everything, self._calls))
            else:
                chosen = {id(layer.module) for layer in layers}
                for x in everything:
                    place = Place(x.name, x.type) if id(x.module) in chosen else None
                    transforms.listen(x.module, "" if x.name == MODEL else x.name, place)
        except BaseException:
            self._detach()
            raise
        suspension.begin()
        # A probe that nobody has removed ends with its model, whose hooks keep this alive.
        self._resume = weakref.finalize(self._calls, suspension.end)
        self.attached = True

    def _detach(self) -> None:
        while self._taps:
            self._taps.pop().remove()

    def remove(self) -> None:
        """Takes everything off the model again."""
        if self.attached:
            self.attached = False
            self._detach()
            self._calls.close()
            self._resume()
