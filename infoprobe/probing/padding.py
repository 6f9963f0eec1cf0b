"""Padding that counts as tokens, for the probe was not told of it; the model was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from infoprobe.devices import send, to_compute_with
from infoprobe.findings import Finding
from infoprobe.probing.selection import Chosen, Select, Tokens, has_tokens
from infoprobe.probing.shards import local_if_whole
from infoprobe.taps.arguments import OwnMask
from infoprobe.torch_internals import outside_of_transforms, plain


class Padding:
    """Whether tokens count in a pass that the model's own mask leaves out.

    All of it stays on the device where the mask is, until somebody asks.

    Arguments:
        own: Which tokens count by the mask that the model was given, (n, t), bool.
        tokens: Which tokens count by the mask of the probe, if it was given one.

    Attributes:
        own: As above.
    """

    def __init__(self, own: Tensor, tokens: Tokens) -> None:
        self.own = own
        self._tokens = tokens
        self._known: dict[Select, Tensor] = {}

    @classmethod
    def of(cls, masks: Sequence[OwnMask], x: Tensor, tokens: Tokens) -> Padding | None:
        """What is known from the masks that a model was given; ``None`` if nothing is.

        Arguments:
            masks: The masks.
            x: The model's input, (n, t) or (n, t, d).
            tokens: Which tokens count by the mask of the probe.
        """
        for mask in masks:
            own: Tensor | None = None
            # What cannot be compared, such as a sparse tensor, must not stop the model's forward.
            with contextlib.suppress(Exception), outside_of_transforms():
                own = _counting(mask, x)
            if own is not None:
                return cls(own, tokens)
        return None

    def counted(self, select: Select, tensors: Iterable[Tensor]) -> Tensor | None:
        """Whether padding is among the samples of some tensors: (2,), int64.

        Arguments:
            select: How the samples are chosen.
            tensors: The tensors.

        Returns:
            Two numbers of which one may be 1: the first where the probe has no mask, and the
            second where it has one. ``None`` if the tensors do not have the tokens of the mask,
            or if samples are chosen in a way that no mask changes.
        """
        if isinstance(select, Chosen) or select == "positions":
            return None
        if not any(has_tokens(x) and x.shape[:2] == self.own.shape for x in tensors):
            return None
        if select not in self._known:
            self._known[select] = self._found(select)
        return self._known[select]

    def _found(self, select: Select) -> Tensor:
        shape = self._tokens.shape
        if shape is None:
            there = (~self.own[:, _columns(select)]).any()
            return torch.stack([there, torch.zeros_like(there)]).to(torch.int64)
        if shape != self.own.shape:  # an error says so where tensors are reduced
            return torch.zeros(2, dtype=torch.int64, device=self.own.device)
        every = "tokens" if select is None else select
        chosen = self._tokens.samples(every, self.own.unsqueeze(-1))
        there = (~chosen).any()
        return torch.stack([torch.zeros_like(there), there]).to(torch.int64)


def _columns(select: Select) -> slice:
    """Which columns must not have padding if the same tokens are to be chosen without a mask."""
    number = {"first": 0, "last": -1}.get(str(select), select)
    if not isinstance(number, int):
        return slice(None)
    return slice(0, number + 1) if number >= 0 else slice(number, None)


def _counting(mask: OwnMask, x: Tensor) -> Tensor | None:
    """Which tokens of the model's input count, (n, t), bool; ``None`` if it is about others."""
    values = to_compute_with(plain(local_if_whole(mask.values)).detach())
    if values.is_meta or not x.dim():
        return None
    n = len(x)
    if values.dim() > 2 and values.shape[1:-1].numel() == 1:  # (n, 1, 1, t), for all heads
        values = values.flatten(1)
    if values.dim() != 2 or len(values) != n:
        return None
    if has_tokens(x):
        t = x.shape[1]
        if values.shape[1] < t:
            return None
        values = values[:, -t:]  # what comes before is in a cache
    if mask.marks_padding:
        return values == 0
    if values.is_floating_point():  # 0 and 1, or what is added to scores: minus infinity and 0
        return values == values.amax()
    return values != 0


def added(before: Tensor | None, later: Tensor) -> Tensor:
    """In how many passes padding counted, before and later."""
    return later if before is None else send(before, later.device) + later


def finding_on(numbers: Sequence[tuple[int, int]], passes: int) -> Finding | None:
    """What a reader must know; ``None`` if padding did not count.

    Arguments:
        numbers: In how many passes padding counted of each thing that a measure used: without a
            mask of the probe, and with another one than the model's.
        passes: The number of all passes.
    """
    without, other = (max(each, default=0) for each in zip(*numbers, strict=True))
    if not without + other:
        return None
    ways = []
    if without:
        ways.append(f"in {without:,} of {passes:,} passes, for which the probe was given no mask")
    if other:
        ways.append(
            f"in {other:,} of {passes:,} passes by the mask that the probe was given, which is "
            "not that of the batch"
        )
    return Finding(
        "warning",
        f"tokens counted that the model's own mask leaves out: {', and '.join(ways)}",
        without + other,
        "Call probe.mask(attention_mask), or probe.mask(~padding_mask), before each pass, with "
        "the mask of the same batch.",
        code="padding-counted",
    )
