"""How something is reduced while it passes, and what is kept of it at one call of a layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from infoprobe.devices import is_here
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.estimators.histogram.unread import why_refused
from infoprobe.estimators.protocols import configuration
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.damage import count_of
from infoprobe.probing.kept.refused import Refused
from infoprobe.probing.kept.reservoir import Merging, Reservoir
from infoprobe.probing.padding import added
from infoprobe.probing.processes.asking import Answered, Exchange, everyone, total
from infoprobe.probing.processes.survivors import Survivors
from infoprobe.probing.roles import Role
from infoprobe.probing.selection import Select
from infoprobe.taps.sink import Event

# Where samples of another shape were met.
MERGED = "In what was merged, samples"


class Problem(NamedTuple):
    """Why something could not be measured at one call of a layer.

    Attributes:
        reason: What was expected, what came, and the way out.
        applies: Whether the measure applies to such layers at all; if it does, the user is
            warned.
    """

    reason: str
    applies: bool = True

    @property
    def kind(self) -> str:
        """What problems with the same cause have in common."""
        return self.reason.partition(" got ")[0]


@dataclass(frozen=True, eq=False)
class Piece:
    """What is kept of one call.

    Attributes:
        n: The number of samples, along the first axis.
        values: The number of scalars.
        refused: Where only a device knows whether the call could be measured, what is known of
            it there; ``None`` where it could.
        padding: Whether padding is among the samples, as :meth:`Padding.counted` says.
    """

    n: int
    values: int
    refused: Tensor | None = field(default=None, kw_only=True)
    padding: Tensor | None = field(default=None, kw_only=True)


P = TypeVar("P", bound=Piece)
K = TypeVar("K", bound="Kept[Any]")


@dataclass(eq=False)
class Kept(ABC, Generic[P]):
    """What is kept, in one way, of the tensors that had one role at one call of a layer.

    Attributes:
        n: The number of samples, over all passes.
        values: The number of scalars.
        left_out: The number of calls that could not be measured.
        why_left_out: What was wrong with the first of them; empty if there were none.
        inapplicable: The number of calls to which the measure does not apply.
        why_inapplicable: Why it does not apply to the first of them.
        notes: What a reader should know of where the tensors came from, in sentences.
        refused: What a device knows of the calls that could not be measured, until it is read.
        padding: In how many passes padding counted, as :meth:`Padding.counted` says; ``None`` if
            the model was given no mask.
    """

    n: int = 0
    values: int = 0
    left_out: int = 0
    why_left_out: str = ""
    inapplicable: int = 0
    why_inapplicable: str = ""
    notes: set[str] = field(default_factory=set)
    refused: Tensor | None = None
    padding: Tensor | None = None

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether no call could be measured yet."""

    @property
    def is_untouched(self) -> bool:
        """Whether no call was to be measured."""
        return self.is_empty and not self.left_out and not self.inapplicable

    @property
    def width(self) -> float | None:
        """The number of values in one sample: a mean where samples differ."""
        if not self.n:
            return None
        return self.values / self.n if self.values % self.n else self.values // self.n

    def add(self, piece: P, run: Pass) -> bool:
        """Adds what a pass brought, and returns whether each kept sample takes more memory now."""
        widened = self._add(piece, run)
        self.n += piece.n
        self.values += piece.values
        if piece.refused is not None:
            self.refused = run.refused(self.refused, piece.refused)
        if piece.padding is not None:
            self.padding = run.padded(self.padding, piece.padding)
        return widened

    @property
    def unread(self) -> list[Tensor]:
        """What is on a device and was not read yet."""
        refused = [] if self.refused is None else [self.refused, *self._unread()]
        return [*self._unread_padding(), *refused]

    def take(self, read: Sequence[Tensor]) -> Refused | None:
        """Takes what :attr:`unread` was, read by the host, and returns which calls do not count.

        Only the device knew that they could not be measured.
        """
        read = list(read)
        if self._unread_padding():
            self.padding = read.pop(0)
        if not read:
            return None
        first, *others = read
        refused = Refused.of(first)
        self.refused = None
        self._uncount(refused.n, refused.values)
        self._take(others, refused)
        return refused if refused.calls else None

    def _uncount(self, n: int, values: int) -> None:
        """Takes samples back that turn out not to count, and the values in them."""
        self.n -= n
        self.values -= values

    def leave_out(self, problem: Problem, where: str, calls: int = 1) -> None:
        """Counts calls that could not be measured.

        Arguments:
            problem: What was wrong with the first of them.
            where: What could not be measured, and when: ``"In pass 3 the output"``.
            calls: The number of calls.
        """
        if problem.applies:
            self.left_out += calls
            self.why_left_out = (
                self.why_left_out or f"{where} could not be measured: {problem.reason}"
            )
        else:
            self.inapplicable += 1
            self.why_inapplicable = self.why_inapplicable or problem.reason

    def merge(self, other: Kept[P], merging: Merging | None) -> None:
        """Takes in what was kept of other data.

        Arguments:
            other: What was kept there.
            merging: How the reservoirs of both were merged, if samples are kept.
        """
        self.n += other.n
        self.values += other.values
        self.left_out += other.left_out
        self.why_left_out = self.why_left_out or other.why_left_out
        self.inapplicable += other.inapplicable
        self.why_inapplicable = self.why_inapplicable or other.why_inapplicable
        self.notes |= other.notes
        if other.padding is not None:
            self.padding = added(self.padding, other.padding)
        self._merge(other, merging)

    def outline(self) -> dict[str, Any]:
        """What processes must agree on before they add up what they have kept.

        It consists of what :func:`~infoprobe.probing.processes.outlines.joined` joins.
        """
        return {
            "why_left_out": self.why_left_out,
            "why_inapplicable": self.why_inapplicable,
            "notes": dict.fromkeys(sorted(self.notes)),
        }

    def pooled(
        self: K, agreed: Mapping[str, Any], survivors: Survivors | None, exchange: Exchange
    ) -> Answered[tuple[K, K]]:
        """What all processes have kept together, and what all but this one have.

        Arguments:
            agreed: The :meth:`outline` of all processes.
            survivors: Which samples remain of the processes' reservoirs, if samples are kept.
            exchange: The processes.
        """
        both = yield from self._pooled(agreed, survivors, exchange)
        odd = self._is_odd(agreed)
        measured = [0, 0] if odd else [self.n, self.values]
        numbers = torch.tensor(
            [*measured, self.left_out + odd, self.inapplicable, *self.padded], device="cpu"
        )
        everything = yield total(numbers)
        for kept, found in zip(both, (everything, everything - numbers), strict=True):
            kept.n, kept.values, kept.left_out, kept.inapplicable = found[:4].tolist()
            kept.padding = found[4:]
            kept.why_left_out = agreed["why_left_out"] or self._disagreement(agreed)
            kept.why_inapplicable = agreed["why_inapplicable"]
            kept.notes = set(agreed["notes"])
        return both

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors, numbers and strings in lists and dictionaries."""
        return {
            "n": self.n,
            "values": self.values,
            "left_out": self.left_out,
            "why_left_out": self.why_left_out,
            "inapplicable": self.inapplicable,
            "why_inapplicable": self.why_inapplicable,
            "notes": sorted(self.notes),
            "padding": list(self.padded),
            **self._state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Becomes what :meth:`state_dict` describes."""
        self.n, self.values = count_of(state["n"]), count_of(state["values"])
        self.left_out, self.why_left_out = count_of(state["left_out"]), state["why_left_out"]
        self.inapplicable = count_of(state["inapplicable"])
        self.why_inapplicable = state["why_inapplicable"]
        self.notes = set(map(str, state["notes"]))
        without, other = map(count_of, state["padding"])
        self.padding = torch.tensor([without, other], device="cpu")
        self._load(state)

    def remarks(self) -> Iterator[str]:
        """What a reader should know of the calls that were measured and left out."""
        if self.left_out:
            yield f"{_calls(self.left_out)} left out. {self.why_left_out}"
        if self.inapplicable and self.is_empty and not self.left_out:
            yield self.why_inapplicable
        elif self.inapplicable:
            yield f"{_calls(self.inapplicable)} left out. {self.why_inapplicable}"

    @property
    def padded(self) -> tuple[int, int]:
        """In how many passes padding counted: without a mask of the probe, and with one."""
        without, other = (0, 0) if self.padding is None else self.padding.tolist()
        return without, other

    def _unread_padding(self) -> list[Tensor]:
        return [] if self.padding is None or is_here(self.padding) else [self.padding]

    def _unread(self) -> list[Tensor]:
        """What is on a device besides, wherever something was."""
        return []

    def _take(self, read: Sequence[Tensor], refused: Refused) -> None:
        """Takes what that was."""

    def _disagreement(self, agreed: Mapping[str, Any]) -> str:
        """Why something that some processes have is left out; empty if nothing is."""
        return ""

    def _is_odd(self, agreed: Mapping[str, Any]) -> bool:
        """Whether what this process has is left out, since it does not go with the others'."""
        return False

    def _pooled(
        self: K, agreed: Mapping[str, Any], survivors: Survivors | None, exchange: Exchange
    ) -> Answered[tuple[K, K]]:
        """What all processes have, and what all but this one have; but for the numbers above.

        This way suits whatever is small, since all states are exchanged.
        """
        states = yield everyone(self._state())
        whole, rest = type(self)(), type(self)()
        for rank, state in enumerate(states):
            other = type(self)()
            other._load(state)
            whole._merge(other, None)
            if rank != exchange.rank:
                rest._merge(other, None)
        return whole, rest

    @abstractmethod
    def _add(self, piece: P, run: Pass) -> bool: ...

    @abstractmethod
    def _merge(self, other: Any, merging: Merging | None) -> None: ...

    @abstractmethod
    def _state(self) -> dict[str, Any]: ...

    @abstractmethod
    def _load(self, state: Mapping[str, Any]) -> None: ...


def _calls(number: int) -> str:
    return "1 call is" if number == 1 else f"{number:,} calls are"


class Reduction(ABC):
    """A way of keeping something: two that have the same settings are equal.

    Subclasses are frozen dataclasses with ``eq=False``.

    Attributes:
        takes_for_independent: Whether errors take each sample of the model for another one, so
            that they are too small where samples come several times.
    """

    takes_for_independent: ClassVar[bool] = False

    @cached_property
    def _identity(self) -> str:
        return repr(configuration(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reduction) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @abstractmethod
    def empty(self) -> Kept[Any]:
        """Nothing kept yet."""

    def why_refused(self, low: float, high: float) -> str:
        """Why something with this least and this greatest value could not be measured."""
        return why_refused(low, high)

    @abstractmethod
    def together(
        self, kept: Sequence[Kept[Any]], reservoir: Reservoir | None
    ) -> Sequence[Counts | Tensor | Any]:
        """What a measure computes from, for each of the things that were kept at one call."""

    def remarks(
        self,
        kept: Mapping[Role, Kept[Any]],
        used: int,
        seed: int,
        reservoir: Reservoir | None,
    ) -> Iterator[str]:
        """What a reader should know of the way in which these were kept.

        Arguments:
            kept: What was kept of each role's tensors, the layer's output last.
            used: How many samples the measure was computed from.
            seed: The seed of all random choices.
            reservoir: Which samples are kept, if samples are.
        """
        yield from ()


class TensorReduction(Reduction):
    """A way of keeping tensors that pass.

    Attributes:
        select: What the samples are: see :func:`infoprobe.probing.selection.require_select`.
    """

    select: Select = None

    @abstractmethod
    def reduce(self, tensors: list[Tensor], run: Pass) -> Piece:
        """What is kept of some tensors, which together have one role.

        Raises:
            TypeError, ValueError: They cannot be kept in this way; the message says why.
        """

    def finish(self, pieces: Sequence[tuple[Any, Any]], completed: bool) -> None:
        """Finishes what :attr:`Pass.unfinished` has of this reduction, after a pass.

        Arguments:
            pieces: What was kept, and the piece that was added to it, in the order of calls.
            completed: Whether the pass returned something, instead of raising an error.
        """


class CallReduction(Reduction):
    """A way of keeping what a layer reports of itself when it returns."""

    @property
    def wants_log_determinants(self) -> bool:
        """Whether invertible layers are to be asked for their log|det J|."""
        return False

    @abstractmethod
    def reduce(self, event: Event, run: Pass) -> Piece | Problem:
        """What is kept of one call, in a pass."""
