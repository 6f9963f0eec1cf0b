"""Samples that a model is given several times, which standard errors take for independent ones."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from infoprobe.devices import is_here, send, to_compute_with
from infoprobe.findings import Finding
from infoprobe.probing.kept.damage import counts_of, numbers_of
from infoprobe.probing.kept.marks import marks_of
from infoprobe.probing.padding import Padding
from infoprobe.probing.selection import has_tokens
from infoprobe.probing.shards import local
from infoprobe.taps.arguments import Arguments
from infoprobe.torch_internals import outside_of_transforms, plain

# The most different samples that are counted.
_MOST = 512
# Where there is no mark; it comes last.
_NONE = 2**63 - 1
# From which factor on an error that is too small is worth a finding.
_TOO_SMALL = 1.05
# An odd number, by which the marks of a sample's several tensors differ.
_PLACE = 0x2545F4914F6CDD1D


class Occurrences:
    """How often samples came, of at most so many different ones.

    The samples with the least marks are counted: a choice at random that does not depend on how
    often they come, and of which each was counted from its first time on. So the states of several
    streams can be added up, and are those of all samples. It all stays where the samples are,
    until somebody asks, and nothing waits.
    """

    def __init__(self) -> None:
        # Samples with larger marks are not counted.
        self._limit = _NONE
        self._marks = torch.full((_MOST,), _NONE, device="cpu")
        self._times = torch.zeros(_MOST, dtype=torch.int64, device="cpu")

    def add(self, marks: Tensor) -> None:
        """Counts the samples of a pass, which have these marks, (n,)."""
        self._join(marks, torch.ones_like(marks))

    def __add__(self, other: Occurrences) -> Occurrences:
        """What was counted of both data."""
        both = Occurrences()
        both._limit = min(self._limit, other._limit)
        both._join(self._marks, self._times)
        both._join(other._marks, other._times)
        return both

    def without(self, part: Occurrences) -> Occurrences:
        """What was counted of all other data than this part of them."""
        there = self._marks != _NONE
        rest = Occurrences()
        full = bool(there.all())
        rest._limit = min(self._limit, int(self._marks[-1]) if full else _NONE)
        places = torch.searchsorted(part._marks, self._marks).clamp(max=_MOST - 1)
        theirs = torch.where(part._marks[places] == self._marks, part._times[places], 0)
        left = there & (self._times > theirs)
        rest._join(self._marks[left], (self._times - theirs)[left])
        return rest

    @torch.inference_mode(False)  # what is made in that mode could not be changed outside of it
    def _join(self, marks: Tensor, times: Tensor) -> None:
        device = marks.device
        counts = marks <= self._limit
        marks, times = torch.where(counts, marks, _NONE), torch.where(counts, times, 0)
        line, order = torch.cat([send(self._marks, device), marks]).sort()
        times = torch.cat([send(self._times, device), times]).index_select(0, order)
        begins = torch.ones_like(line)
        begins[1:] = line[1:] != line[:-1]
        places = begins.cumsum(0) - 1
        # All shapes are known beforehand, so nothing has to be asked for.
        kept = torch.full_like(line, _NONE).scatter(0, places, line)
        summed = torch.zeros_like(times).index_add(0, places, times)
        self._marks, self._times = kept[:_MOST].clone(), summed[:_MOST].clone()

    @property
    def unread(self) -> list[Tensor]:
        """What is on a device and was not read yet."""
        return [] if is_here(self._marks) else [self._marks, self._times]

    def take(self, read: Sequence[Tensor]) -> None:
        """Takes what :attr:`unread` was, read by the host."""
        if read:
            self._marks, self._times = read

    def findings(self) -> Iterator[Finding]:
        """What a reader of a standard error must know; nothing if samples hardly repeat."""
        times = self._times[self._marks != _NONE].double()
        total = float(times.sum())
        # A sample that comes c times among n has the weight c / n in a mean, and not 1 / n.
        factor = math.sqrt(float(times.square().sum()) / total) if total else 1.0
        if factor < _TOO_SMALL:
            return
        share = 1 - len(times) / total
        yield Finding(
            "warning",
            f"{share:.0%} of the samples that the model was given had come before: if they are "
            "copies, as in a second epoch, the standard error, which takes all for independent, "
            f"is too small by a factor of up to {factor:.2g}",
            factor,
            "Pass each sample once.",
            code="copied-samples",
        )

    def state_dict(self) -> dict[str, Any]:
        """All of it as tensors."""
        there = self._marks != _NONE
        marks, times = self._marks[there], self._times[there]
        return {"marks": marks, "times": times, "limit": self._limit}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Occurrences:
        """What :meth:`state_dict` describes."""
        number = len(state["marks"])
        found = cls()
        found._limit = int(state["limit"])
        found._join(numbers_of(state["marks"], number), counts_of(state["times"], number))
        return found


def marks_of_samples(arguments: Arguments, n: int, padding: Padding | None) -> Tensor | None:
    """Marks (n,) by which the samples of a pass are known again, from all that decides of them.

    Arguments:
        arguments: All that the model is given.
        n: The number of samples.
        padding: What is known of padding, which decides of nothing.

    Returns:
        ``None`` if it is unknown what else decides, or if a tensor cannot be marked.
    """
    if not arguments.tensors:
        return None
    marks: Tensor | None = None
    # Of a sparse tensor, for one, no marks can be made.
    with contextlib.suppress(Exception), outside_of_transforms():
        place = torch.zeros(1, dtype=torch.int64, device="cpu")
        found = []
        for given in arguments.tensors:
            x = to_compute_with(plain(local(given))).detach()
            if x.is_meta:
                return None
            if not x.dim() or len(x) != n:  # it is one for all samples
                x = x.reshape(1, -1)
            if padding is not None and has_tokens(x) and x.shape[:2] == padding.own.shape:
                left_out = ~send(padding.own, x.device)
                x = x.masked_fill(left_out if x.dim() == 2 else left_out.unsqueeze(-1), 0)
            found.append(marks_of(x, place))
        marks = torch.full((n,), arguments.others, dtype=torch.int64, device=found[0].device)
        for each in found:
            marks = marks * _PLACE + send(each, marks.device)
            marks ^= marks >> 31
    return marks
