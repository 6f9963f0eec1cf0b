"""What passes through a model, reduced while it passes by and folded into a record."""

from __future__ import annotations

import contextlib
import math
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from infoprobe import checks
from infoprobe.errors import ArgumentError, ArgumentValueError
from infoprobe.estimators import Histogram
from infoprobe.estimators.histogram.counts import Counts, in_memory_order
from infoprobe.libraries.log_determinants import LogDeterminant, per_sample
from infoprobe.models.variational import GaussianBottleneck
from infoprobe.probing.measures import Averaging, Keeping, Measure, Role, Sampling
from infoprobe.probing.moments import Moments
from infoprobe.probing.record import Record, Store, Visit
from infoprobe.probing.reservoir import Admitted, Rows, random_stream
from infoprobe.rows import Row
from infoprobe.taps.sink import Event

# Up to so many neighbouring values are drawn together.
_CHUNK = 64


class _Counted(NamedTuple):
    """The counts of some tensors of one role."""

    counts: Counts
    n: int
    values: int
    counted: int


class _Drawn(NamedTuple):
    """The rows of a tensor that are kept."""

    rows: Tensor
    admitted: Admitted
    n: int
    values: int


class _Problem(NamedTuple):
    """Why a tensor could not be measured, and whether to warn of it."""

    message: str
    warn: bool = True


class _Averaged(NamedTuple):
    """The moments of what a layer says of its volume or its rate."""

    moments: Moments
    n: int
    values: int
    doubt: str = ""


_Piece = _Counted | _Drawn | _Averaged | _Problem
# By the number of the way in which something is kept.
_Pieces = dict[int, _Piece]


class _Seen(NamedTuple):
    """What was made of a tensor that may pass by again, and how to tell that it is unchanged."""

    tensor: weakref.ref[Tensor]
    version: int
    pieces: _Pieces


@dataclass
class _Pass:
    """One pass through the model.

    Attributes:
        number: Counts the passes, from 0.
        entrance: The part by which it entered, if not the model.
        record: What was being filled when it began.
        input: What was made of the model's input.
        target: Likewise.
        admitted: Which of its samples each reservoir keeps.
        seen: What was made of the tensors that passed by.
        sums: What was added up, by the identities of both terms.
        chosen: Which of so many chunks of a tensor's values are counted.
        under_vmap: Whether tensors stand for many, and have no values of their own.
    """

    number: int
    entrance: str | None
    record: Record
    input: _Pieces = field(default_factory=dict)
    target: _Pieces = field(default_factory=dict)
    admitted: dict[Sampling, Admitted] = field(default_factory=dict)
    seen: dict[int, _Seen] = field(default_factory=dict)
    sums: dict[tuple[int, int], tuple[Counts, Any, Counts]] = field(default_factory=dict)
    chosen: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    under_vmap: bool = False

    def sum(self, before: Any, counts: Counts) -> Counts:
        """The counts so far and those of this pass.

        Layers that have seen the same tensors share their counts: what one gave is what the next
        was given, and all refer to the same input. So each tensor is added only once.
        """
        if before is None:
            return counts
        key = id(before), id(counts)
        if key not in self.sums:
            self.sums[key] = before + counts, before, counts
        return self.sums[key][0]


_NO_TENSOR: dict[Role, str] = {
    "output": "there is no tensor.",
    "previous": "there is no tensor.",
    "input": "there is no tensor.",
    "target": "there is none. Call probe.target(y) before the forward pass.",
    "volume": "it is not invertible.",
    "rate": "it draws no codes.",
}


class Recorder:
    """The sink of the taps: reduces each tensor once and folds what results into a record.

    Attributes:
        record: What was measured; if steps are tracked, since the last window of them.
        rows: The rows of the windows that are over.
        paused: Whether to ignore the passes that begin.
        wants_log_determinants: Whether layers are to be asked for their log|det J|.
    """

    def __init__(
        self,
        measures: Sequence[Measure],
        values_per_batch: int | None,
        memory: int,
        seed: int,
    ) -> None:
        self.measures = list(measures)
        self._ways: dict[Role, list[int]] = {role: [] for role in _NO_TENSOR}
        for way, role in Record(measures, seed).needs:
            self._ways[role].append(way)
        self.wants_log_determinants = bool(self._ways["volume"])
        self._values_per_batch = values_per_batch
        self._memory = memory
        self._seed = seed
        self._every, self._window = 1, 0
        self._lock = threading.RLock()
        self._projections: dict[tuple[int, int], Tensor] = {}
        self.paused = False
        self.reset()

    def reset(self) -> None:
        """Forgets all that was measured."""
        self.record = Record(self.measures, self._seed)
        self.rows: list[Row] = []
        self.passes = 0
        self._begun = 0
        self._target: list[Tensor] = []
        self._generator = random_stream(self._seed)

    @property
    def step(self) -> int:
        """The number of the pass with which the present window began."""
        return (self._begun - 1) // self._every * self._every

    @property
    def tracking(self) -> bool:
        """Whether measures are computed window by window."""
        return self._window > 0

    def track(self, every: int, passes: int) -> None:
        """From now on measures ``passes`` passes of each ``every``, window by window."""
        self.reset()
        self._every, self._window = every, passes

    def target(self, target: Tensor) -> None:
        """What the next pass is to find."""
        self._target = [target]

    # What the taps tell.

    def begin(self, inputs: list[Tensor], entrance: str | None) -> _Pass | None:
        """Reduces the model's input and the target."""
        with self._lock:
            target, self._target = self._target, []
            # A trace would record what we do, and know no numbers.
            if self.paused or torch._C._get_tracing_state() is not None:
                return None
            number = self._begun
            self._begun += 1
            self.passes += 1
            if self.tracking and number % self._every >= self._window:
                return None
            run = _Pass(number, entrance, self.record)
            self.record.passes += 1
            run.under_vmap = _under_vmap()
            if inputs and not run.under_vmap:
                for sampling, reservoir in self.record.reservoirs.items():
                    run.admitted[sampling] = reservoir.admit(_length(inputs[0]))
        run.input = self._reduce(run, "input", inputs)
        run.target = self._reduce(run, "target", target)
        return run

    def end(self, run: _Pass) -> None:
        """Computes the measures at the end of a window of steps."""
        with self._lock:
            last = self.tracking and run.number % self._every == self._window - 1
            if last and run.record is self.record:  # else it was reset meanwhile
                self.rows += self.record.rows(step=self.step)
                self.record = Record(self.measures, self._seed)

    def enter(self, run: _Pass, inputs: list[Tensor]) -> _Pieces:
        """Reduces the layer's input, which the layer may overwrite."""
        return self._reduce(run, "previous", inputs)

    def exit(self, run: _Pass, event: Event) -> None:
        """Reduces the layer's output, and adds all to the visit's stores."""
        outputs, entered = event.outputs, event.entered
        if entered is None:
            entered = dict.fromkeys(self._ways["previous"], _NOT_A_LAYER)
        pieces: dict[Role, _Pieces] = {
            # A layer may change a tensor behind our back and return it.
            "output": self._reduce(run, "output", outputs, afresh=not event.unchanged),
            "previous": entered,
            "input": run.input,
            "target": run.target,
            "volume": self._averages(
                "volume", lambda: _average_volume(run, event.log_determinant, outputs)
            ),
            "rate": self._averages("rate", lambda: _average_rate(run, event)),
        }
        visit = Visit(event.place, event.direction, event.call)
        with self._lock:
            stores = self.record.stores(visit)
            for (way, role), store in zip(self.record.needs, stores, strict=True):
                piece = pieces[role][way]
                if not isinstance(piece, _Problem):
                    try:
                        self._add(run, store, piece)
                    except Exception as error:
                        piece = _Problem(_problem_of(error))
                if isinstance(piece, _Problem):
                    self._leave_out(visit, role, store, piece, run)
                elif run.entrance is not None and role == "input":
                    store.entrances.add(run.entrance)

    def _add(self, run: _Pass, store: Store, piece: _Counted | _Drawn | _Averaged) -> None:
        if isinstance(piece, _Counted):
            store.kept = run.sum(store.kept, piece.counts)
            store.counted += piece.counted
        elif isinstance(piece, _Averaged):
            before = store.kept if isinstance(store.kept, Moments) else Moments()
            store.kept = before + piece.moments
            store.doubts = store.doubts or piece.doubt
        else:
            rows = store.kept if isinstance(store.kept, Rows) else Rows.none_like(piece.rows)
            width = rows.row_bytes
            rows.add(piece.admitted, piece.rows)
            if store.kept is None or rows.row_bytes != width:
                store.kept = rows
                self.record.shrink(self._memory)
        store.n += piece.n
        store.values += piece.values

    def _leave_out(
        self, visit: Visit, role: Role, store: Store, problem: _Problem, run: _Pass
    ) -> None:
        # A measure must not stop somebody's training: it warns once a visit and goes on.
        store.left_out += 1
        if store.left_out > 1:
            return
        store.why_left_out = f"in pass {run.number + 1}, {role}: {problem.message}"
        failed = sum(other.left_out > 0 for other in self.record.stores(visit))
        if problem.warn and failed == 1:
            warnings.warn(
                f"layer {visit.place.name!r} ({visit.direction}): a call is left out of its "
                f"measures, {store.why_left_out}",
                RuntimeWarning,
                stacklevel=2,
            )

    # From tensors to what is kept of them.

    def _reduce(
        self, run: _Pass, role: Role, tensors: list[Tensor], afresh: bool = False
    ) -> _Pieces:
        """What is kept of some tensors together, in every way that this role needs."""
        ways = self._ways[role]
        if not ways:
            return {}
        pieces: _Pieces = {}
        (tensor,) = tensors if len(tensors) == 1 else (None,)
        version = None if tensor is None else _version(tensor)
        if tensor is not None and version is not None:
            seen = None if afresh else run.seen.get(id(tensor))
            # A change through tensor.data between two layers goes unnoticed.
            if seen and seen.tensor() is tensor and seen.version == version:
                pieces = seen.pieces
            else:
                run.seen[id(tensor)] = _Seen(weakref.ref(tensor), version, pieces)
        for way in ways:
            if way not in pieces:
                pieces[way] = self._piece(run, role, self.record.ways[way], tensors)
        return pieces

    def _piece(self, run: _Pass, role: Role, keeping: Keeping, tensors: list[Tensor]) -> _Piece:
        if not tensors:
            return _Problem(_NO_TENSOR[role])
        if run.under_vmap:
            return _Problem("under torch.func.vmap tensors have no values. Call the model itself.")
        try:
            tensors = [_plain(x) for x in tensors]
            if isinstance(keeping, Averaging):
                raise TypeError(f"nothing is averaged of the {role}")
            with _outside_of_transforms():
                if isinstance(keeping, Sampling):
                    return self._draw(run, keeping, tensors)
                return self._count(run, keeping, tensors)
        except Exception as error:  # reported on the row, not raised in the user's forward
            return _Problem(_problem_of(error))

    def _count(self, run: _Pass, histogram: Histogram, tensors: list[Tensor]) -> _Counted:
        first, *others = tensors
        values = first.numel() + sum(x.numel() for x in others)
        chosen = tensors
        if self._values_per_batch is not None and values > self._values_per_batch:
            share = self._values_per_batch / values
            chosen = [self._some_values(run, x, share) for x in tensors]
        counts = histogram.count(chosen[0])
        for x in chosen[1:]:
            counts += histogram.count(x)
        return _Counted(
            counts.to("cpu") if first.is_cuda else counts,
            n=_length(first) or 1,
            values=values,
            counted=values if chosen is tensors else sum(x.numel() for x in chosen),
        )

    def _some_values(self, run: _Pass, x: Tensor, share: float) -> Tensor:
        """A random share of a tensor's values, each equally likely.

        Neighbours in memory are drawn together, since that is much faster: as many as divide the
        tensor evenly. Of the tensor's parts each gives one such chunk, the same in all tensors
        of a pass that are of this size.
        """
        flat = in_memory_order(checks.as_tensor(x, "x"))
        length = min(_CHUNK, flat.numel() & -flat.numel())
        there = flat.numel() // length
        wanted = max(1, round(share * there))
        if (there, wanted) not in run.chosen:
            with self._lock:
                place = torch.rand(
                    wanted, generator=self._generator, dtype=torch.float64, device="cpu"
                )
            place += torch.arange(wanted, device="cpu")
            chosen = place.mul_(there / wanted).long().clamp_(max=there - 1)
            run.chosen[there, wanted] = chosen
        return flat.view(there, length).index_select(0, run.chosen[there, wanted].to(x.device))

    def _draw(self, run: _Pass, keeping: Sampling, tensors: list[Tensor]) -> _Drawn:
        parts = [checks.as_tensor(x, "x") for x in tensors]
        lengths = set(map(_length, parts))
        n = max(lengths)
        with self._lock:
            admitted = run.admitted.get(keeping)
            if admitted is None:  # there was no input that would tell
                admitted = self.record.reservoirs[keeping].admit(n)
                run.admitted[keeping] = admitted
        if lengths != {admitted.n}:
            raise ArgumentValueError(
                "x",
                f"expected one row for each of the pass's {admitted.n:,} samples, got shape "
                f"{tuple(parts[0].shape)}: which row belongs to which sample is unknown. Choose "
                "layers that keep samples along the first axis, or a measure that streams.",
            )
        for x in parts:
            checks.extent(checks.exact_float(x, "x"), "x")
        rows = [x[admitted.rows.to(x.device)].to("cpu") for x in parts]
        together = rows[0] if len(rows) == 1 else torch.cat([x.flatten(1) for x in rows], 1)
        return _Drawn(
            self._projected(together, keeping.project), admitted, n, sum(x.numel() for x in parts)
        )

    def _averages(self, role: Role, average: Callable[[], _Piece]) -> _Pieces:
        """What a layer tells of itself, if it is asked for."""
        ways = self._ways[role]
        if not ways:
            return {}
        try:
            piece = average()
        except Exception as error:  # reported on the row, not raised in the user's forward
            piece = _Problem(_problem_of(error))
        return dict.fromkeys(ways, piece)

    def _projected(self, rows: Tensor, dimensions: int | None) -> Tensor:
        width = rows.shape[1:].numel()
        if dimensions is None or width <= dimensions:
            return rows
        key = width, dimensions
        if key not in self._projections:
            # Lengths are kept in the mean.
            generator = torch.Generator().manual_seed(self._seed)  # the same in all processes
            self._projections[key] = torch.randn(
                key, generator=generator, dtype=torch.float32, device="cpu"
            ).div_(math.sqrt(dimensions))
        with torch.autocast("cpu", enabled=False):
            return rows.flatten(1).to(torch.float32) @ self._projections[key]

    # With others, and to and from files.

    def merge(self, other: Recorder) -> None:
        """Takes in what another recorder has of other data."""
        if other.measures != self.measures:
            raise ArgumentValueError(
                "other",
                f"expected a probe with the measures {self.measures}, got "
                f"{other.measures}. Make both with the same measures.",
            )
        with self._lock:
            theirs = other.record
            if other is self:
                theirs = Record.from_state_dict(theirs.state_dict(), self.measures)
            self.record.merge(theirs)
            self.record.shrink(self._memory)
            self.rows += [row.copy() for row in other.rows]
            self.passes += other.passes

    def state_dict(self) -> dict[str, Any]:
        """All that was measured, and the state of the random choices."""
        return {
            "record": self.record.state_dict(),
            "rows": [row.copy() for row in self.rows],
            "passes": [self.passes, self._begun],
            "tracking": [self._every, self._window],
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what :meth:`state_dict` gave."""
        if not isinstance(state, Mapping) or "record" not in state:
            raise ArgumentValueError(
                "state",
                f"expected what Probe.state_dict() gave, got {type(state).__name__} "
                "without a record. Pass what was saved, as it was.",
            )
        with self._lock:
            self.record = Record.from_state_dict(state["record"], self.measures)
            self.record.shrink(self._memory)
            self.rows = [row.copy() for row in state["rows"]]
            self.passes, self._begun = state["passes"]
            self._every, self._window = state["tracking"]
            self._generator.set_state(state["generator"])
            self._seed = self.record.seed
            self._projections.clear()


def _average_volume(run: _Pass, reported: LogDeterminant | None, outputs: list[Tensor]) -> _Piece:
    """The moments of a layer's log|det J|."""
    if reported is None:
        return _Problem("it is not invertible, or does not tell its volume.", warn=False)
    claim = reported.value
    if claim is None or not outputs or run.under_vmap:
        return _Problem(reported.doubt or "it did not tell its volume.", warn=False)
    x = _plain(outputs[0])
    moments = Moments.of(per_sample(_plain(claim) if isinstance(claim, Tensor) else claim, x))
    return _Averaged(moments, _length(x), sum(map(Tensor.numel, outputs)), reported.doubt)


def _average_rate(run: _Pass, event: Event) -> _Piece:
    """The moments of what a layer's codes cost."""
    if not isinstance(event.module, GaussianBottleneck):
        return _Problem("it is no ip.models.GaussianBottleneck.", warn=False)
    if run.under_vmap:
        return _Problem("under torch.func.vmap tensors have no values.", warn=False)
    with torch.no_grad():
        rates = _plain(event.module.rate(*event.args, **event.kwargs)).double()
    values = sum(map(Tensor.numel, event.outputs))
    return _Averaged(Moments.of(rates), _length(rates), values)


def _problem_of(error: Exception) -> str:
    return error.problem if isinstance(error, ArgumentError) else str(error)


def _version(tensor: Tensor) -> int | None:
    """How often a tensor was changed in place; ``None`` for inference tensors, which forget."""
    with torch._C.DisableTorchFunctionSubclass():  # some refuse to be asked
        return None if tensor.is_inference() else tensor._version


def _outside_of_transforms() -> contextlib.AbstractContextManager[object]:
    """A ``with`` block in which torch.func's transforms do not see what we do."""
    if torch._C._functorch.peek_interpreter_stack() is None:
        return contextlib.nullcontext()
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    return temporarily_clear_interpreter_stack()


def _under_vmap() -> bool:
    stack = torch._C._functorch.get_interpreter_stack()
    vmap = torch._C._functorch.TransformType.Vmap
    return stack is not None and any(transform.key() == vmap for transform in stack)


def _plain(x: Tensor) -> Tensor:
    """The tensor without what torch.func and forward-mode differentiation put around it."""
    while torch._C._functorch.is_gradtrackingtensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    if forward_ad._current_level >= 0:
        x = forward_ad.unpack_dual(x).primal  # type: ignore[no-untyped-call]
    return x.detach()


def _length(x: Tensor) -> int:
    """The number of samples, along the first axis."""
    return x.size(0) if x.dim() else 0


# Measures that refer to a tap's input do not apply: that is no news.
_NOT_A_LAYER = _Problem("a tap has no input of its own.", warn=False)
