"""The random choices of a probe: of samples, of values, and of directions to project onto."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.devices import send, to_compute_with
from infoprobe.errors import ArgumentError
from infoprobe.estimators.errors import GROUPS
from infoprobe.estimators.histogram.counts import Counts, in_memory_order
from infoprobe.estimators.histogram.unread import UnreadCounts
from infoprobe.estimators.moments import SecondMoments
from infoprobe.forks import forkable_lock
from infoprobe.probing.kept.marks import marked_values, marks_of
from infoprobe.probing.kept.refused import together
from infoprobe.probing.kept.reservoir import Admitted, Reservoir, random_stream
from infoprobe.probing.padding import Padding, added
from infoprobe.probing.projections import projected
from infoprobe.probing.selection import Select, Tokens
from infoprobe.torch_internals import outside_of_transforms, plain

# A pass that holds more than one part in so many of all samples is cut into blocks.
_PARTS = 12

C = TypeVar("C", Counts, UnreadCounts, SecondMoments)

# As many neighbouring values at most are drawn together.
_CHUNK = 64


class Choices:
    """The random choices of one probe, and the lock under which its threads make them.

    Attributes:
        seed: The seed of all choices.
        values_per_batch: About how many values of each larger tensor are counted; ``None`` for
            all.
        generator: The source of the choices of values.
        lock: Held by whoever changes what the probe has measured.
    """

    def __init__(self, seed: int, values_per_batch: int | None) -> None:
        self.seed: int = seed
        self.values_per_batch = values_per_batch
        self.generator: torch.Generator = random_stream(seed)
        self.lock: Any = forkable_lock()

    def restart(self) -> None:
        """Starts again from the seed."""
        self.generator = random_stream(self.seed)

    def resume(self, seed: int, generator_state: Tensor) -> None:
        """Goes on from an earlier state."""
        self.seed = seed
        self.generator.set_state(generator_state)

    def project(self, samples: Tensor, dimensions: int | None) -> Tensor:
        """Samples (n, ...) projected onto random directions, if they have more dimensions.

        The directions depend on the seed and on the number of dimensions alone, so they are the
        same in all processes, and lengths are kept in the mean.
        """
        if dimensions is None or samples.shape[1:].numel() <= dimensions:
            return samples
        return projected(samples, dimensions, self.seed)


@dataclass
class Turns:
    """Which of the groups get the next samples.

    A standard error comes from how groups of whole samples differ. Each pass goes to one of them,
    whose turn it is, since that costs nothing. Only a pass that has more than a twelfth of all
    samples until then, such as the first ones, is cut into blocks for several groups.

    Attributes:
        samples: The number of samples until now.
        next: The group whose turn it is.
    """

    samples: int = 0
    next: int = 0

    def take(self, n: int) -> list[int]:
        """The groups of the blocks of a pass with ``n`` samples."""
        self.samples += n
        parts = GROUPS if n == self.samples else _PARTS
        blocks = max(1, min(n, round(parts * n / max(self.samples, 1))))
        taken = [(self.next + i) % GROUPS for i in range(blocks)]
        self.next = (self.next + blocks) % GROUPS
        return taken

    def merge(self, other: Turns) -> None:
        """Goes on after the turns of other passes as well."""
        self.samples += other.samples
        self.next = (self.next + other.next) % GROUPS


class Pass:
    """What the layers within one pass through the model have in common.

    Arguments:
        choices: The random choices of the probe.
        reservoirs: For each way of keeping samples, which ones are kept.
        groups: The groups that get the pass's blocks of samples.
        tokens: Which tokens the pass's sequences have; ``None`` for samples without any.
        make_room: Shrinks the reservoirs if the samples that one of them keeps take so many bytes
            each that they do not fit into the memory.
        number: The number of the pass, from 0.
        is_second: Whether its samples are the second views of those of the pass before.
        first: Which samples were kept of the pass before, if it has their first views.
        padding: What the model's own mask says of padding, if it has one.

    Attributes:
        admissions: Which samples each reservoir keeps, as far as that is decided.
        unfinished: What is finished when the pass is over, by the reduction that finishes it.
    """

    def __init__(
        self,
        choices: Choices,
        reservoirs: Mapping[Any, Reservoir],
        groups: Sequence[int] = (0,),
        tokens: Tokens | None = None,
        make_room: Callable[[Hashable, int], None] = lambda sampling, sample_bytes: None,
        number: int = 0,
        *,
        is_second: bool = False,
        first: Mapping[Hashable, Admitted] | None = None,
        padding: Padding | None = None,
    ) -> None:
        self.choices = choices
        self._make_room = make_room
        self.groups = groups
        self.tokens: Tokens = Tokens() if tokens is None else tokens
        self.number = number
        self.is_second = is_second
        self.first = first
        self.padding = padding
        self._reservoirs = reservoirs
        self.admissions: dict[Hashable, Admitted] = {}
        self._sums: dict[tuple[int, int], tuple[Any, Any, Any]] = {}
        self._chunks: dict[tuple[int, int], Tensor] = {}
        self._places: dict[tuple[int, int, int | None], Tensor] = {}
        self.unfinished: dict[Any, list[Any]] = {}

    def fitting(self, sampling: Hashable, n: int, sample_bytes: int) -> Admitted:
        """Which of the pass's samples are kept, now that each takes so many bytes.

        Room is made before anything is copied, so that a copy never takes more than the memory.
        """
        admitted = self.admitted(sampling, n)
        with self.choices.lock:
            self._make_room(sampling, sample_bytes)
            return self._reservoirs[sampling].still(admitted)

    def admit_all(self, x: Tensor) -> None:
        """Decides for every reservoir which of the pass's samples it keeps, and marks them.

        Arguments:
            x: The model's input, (n, ...).
        """
        for sampling, reservoir in self._reservoirs.items():
            if self._follows(sampling):
                continue  # it was decided and marked before
            n = self._known_count(sampling.select)
            if n is None:
                continue
            try:
                admitted = self.admitted(sampling, n)
            except Exception:  # raised again where a tensor is reduced, and told on its row
                continue
            origins = self.tokens.origins(sampling.select, admitted.indices)
            if x.dim() and not x.is_meta and origins is not None and len(admitted.indices):
                sequences, places = origins
                # What cannot be marked, such as a sparse tensor, is not known again.
                with contextlib.suppress(Exception), outside_of_transforms():
                    values = marked_values(to_compute_with(plain(x)))
                    chosen = values.index_select(0, send(sequences, values.device))
                    reservoir.mark(admitted, marks_of(chosen, places))

    def _follows(self, sampling: Any) -> bool:
        """Whether a reservoir keeps the same samples of this pass as of the one before."""
        return self.is_second and sampling.paired

    def _known_count(self, select: Select) -> int | None:
        try:
            return self.tokens.count(select)
        except ArgumentError:  # raised again where a tensor is reduced, and told on its row
            return None

    def admitted(self, sampling: Hashable, n: int) -> Admitted:
        """Which of the pass's samples a reservoir keeps: of ``n``, unless decided before."""
        if self.first is not None and self._follows(sampling):
            return self.first[sampling]
        with self.choices.lock:
            if sampling not in self.admissions:
                with outside_of_transforms():
                    self.admissions[sampling] = self._reservoirs[sampling].admit(n)
            return self.admissions[sampling]

    def places(self, x: Tensor, limit: int | None = None) -> Tensor:
        """Where the tokens that count stand among all of some sequences.

        Arguments:
            x: The sequences, (n, t, d).
            limit: The most tokens to choose, at random and the same at every layer; ``None`` for
                all.

        Returns:
            Their numbers in order, from 0 to n t - 1: (m,), int64, on the CPU.

        Raises:
            DoesNotApplyError: The tensor does not have the tokens of the mask.
            ValueError: No token counts, or the mask does not fit the model's input.
        """
        n, t = x.shape[:2]
        with self.choices.lock:
            if (n, t, limit) not in self._places:
                self.tokens.require_tokens_of_mask(x.shape[:2], x)
                numbers = torch.arange(n * t, device="cpu").view(n, t, 1)
                places = self.tokens.samples("tokens", numbers).flatten()
                if limit is not None and len(places) > limit:
                    generator = self.choices.generator
                    order = torch.randperm(len(places), generator=generator, device="cpu")
                    places = places[order[:limit].sort().values]
                self._places[n, t, limit] = places
            return self._places[n, t, limit]

    def mask_of(self, x: Tensor) -> Tensor | None:
        """Which tokens of some sequences (n, t, d) count, (n, t), bool; ``None`` if all do.

        The errors are those of :meth:`places`.
        """
        if not self.tokens.padded:
            return None
        counts = torch.zeros(x.shape[:2].numel(), dtype=torch.bool, device="cpu")
        counts[self.places(x)] = True
        return counts.view(x.shape[:2]).to(x.device, non_blocking=True)

    def sum(self, before: C, counts: C) -> C:
        """The counts, or moments, of earlier passes and those of this one.

        Layers that have seen the same tensors share them: the output of one is the input
        of the next, and all refer to the same input of the model. So each tensor is added once.
        """
        known = self._sums.get((id(before), id(counts)))
        added: C = self._once(operator.add, before, counts) if known is None else known[0]
        return added

    def refused(self, before: Tensor | None, refused: Tensor) -> Tensor:
        """What is known of the calls of earlier passes that were refused, and of this one."""
        joined: Tensor = self._once(together, before, refused)
        return joined

    def padded(self, before: Tensor | None, later: Tensor) -> Tensor:
        """In how many passes padding counted, earlier and now."""
        total: Tensor = self._once(added, before, later)
        return total

    def _once(self, function: Callable[[Any, Any], Any], before: Any, later: Any) -> Any:
        key = id(before), id(later)
        if key not in self._sums:
            # The terms are kept too, so that no other object gets their identities.
            self._sums[key] = function(before, later), before, later
        return self._sums[key][0]

    def values_of(self, tensors: list[Tensor]) -> list[Tensor]:
        """The values to be counted of some tensors: all, or a random share."""
        limit = self.choices.values_per_batch
        if limit is None:
            return tensors
        values = sum(x.numel() for x in tensors)
        if values <= limit:
            return tensors
        return [self._some_values(x, limit / values) for x in tensors]

    def _some_values(self, x: Tensor, share: float) -> Tensor:
        """A random share of a tensor's values, each equally likely.

        Neighbours in memory are drawn together, since that is much faster: as many as divide the
        tensor evenly. The tensor is cut into equal parts and each gives one such chunk, the same
        in all tensors of a pass that have this size.
        """
        flat = in_memory_order(checks.as_tensor(x, "x"))
        length = min(_CHUNK, flat.numel() & -flat.numel())
        there = flat.numel() // length
        wanted = max(1, round(share * there))
        if (there, wanted) not in self._chunks:
            with self.choices.lock:
                place = torch.rand(
                    wanted, generator=self.choices.generator, dtype=torch.float64, device="cpu"
                )
            place += torch.arange(wanted, device="cpu")
            self._chunks[there, wanted] = place.mul_(there / wanted).long().clamp_(max=there - 1)
        chunks = send(self._chunks[there, wanted], x.device)
        return flat.view(there, length).index_select(0, chunks)
