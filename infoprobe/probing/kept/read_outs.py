"""Predictions that are read out of the layers of a pass once it is over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError
from infoprobe.estimators.sequences.outcomes import Outcomes
from infoprobe.estimators.sequences.predictions import Predictions, divergences, entropies
from infoprobe.probing.choices import Pass
from infoprobe.probing.kept.averages import Average, pooled, tokens_of
from infoprobe.probing.kept.base import Kept, Piece, Problem, TensorReduction
from infoprobe.probing.kept.damage import count_of
from infoprobe.probing.kept.reservoir import Merging, Reservoir
from infoprobe.probing.processes.asking import Answered, Exchange, total
from infoprobe.probing.processes.survivors import Survivors
from infoprobe.probing.roles import Role
from infoprobe.taps.calls import unobserved
from infoprobe.torch_internals import without_hooks

# About how many logits there are at once.
_BLOCK = 1 << 24
# With how many positions the size of the vocabulary is found out.
_FIRST = 8
# Devices with random numbers of their own, whose states can be read.
_WITH_GENERATORS = {"cuda", "xpu"}


class ReadOut:
    """What turns the output of a layer into logits: modules and functions, one after the other.

    Arguments:
        steps: A module or a function, or several.

    Raises:
        TypeError: Something else is among them.
    """

    def __init__(self, steps: Any) -> None:
        given = (steps,) if callable(steps) else tuple(checks.items(steps))
        if not given or not all(callable(step) for step in given):
            raise ArgumentTypeError(
                "read_out",
                "expected modules or functions that turn a layer's output into logits, such as "
                f"[model.transformer.ln_f, model.lm_head], got {checks.typed(steps)}.",
            )
        self._steps: tuple[Callable[[Tensor], Tensor], ...] = given

    @contextlib.contextmanager
    def prepared(self, x: Tensor) -> Iterator[Callable[[Tensor], Tensor]]:
        """A ``with`` block in which it can be used, and leaves no trace of that.

        Modules are used without hooks, in evaluation mode, and with copies of their buffers;
        functions as they are. No random number is drawn from the generators of the model, and no
        probe takes note.

        Arguments:
            x: A tensor on the device where it will be used.
        """
        steps = [
            without_hooks(step) if isinstance(step, nn.Module) else step for step in self._steps
        ]

        def logits(x: Tensor) -> Tensor:
            for step in steps:
                x = step(x)
            return x

        kind = x.device.type if x.device.type in _WITH_GENERATORS else "cuda"
        devices = [x.device] if x.device.type == kind else []
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices, device_type=kind),
            unobserved(),
        ):
            yield logits

    def configuration(self) -> Any:
        """What tells it from others: the classes, and the shapes of parameters."""
        return [
            [_name(step), [[name, list(p.shape)] for name, p in step.named_parameters()]]
            if isinstance(step, nn.Module)
            else [_name(step), []]
            for step in self._steps
        ]

    def __repr__(self) -> str:
        return " > ".join(
            type(step).__name__ if isinstance(step, nn.Module) else _name(step)
            for step in self._steps
        )


def _name(step: object) -> str:
    if isinstance(step, nn.Module):
        return f"{type(step).__module__}.{type(step).__qualname__}"
    return str(getattr(step, "__qualname__", type(step).__qualname__))


@dataclass(frozen=True, eq=False)
class PositionsPiece(Piece):
    """What a layer had at some positions of one pass.

    Attributes:
        x: The vectors, (m, d).
        sequences: The sequence of each, (m,), int64.
        grid: How many sequences of how many tokens the layer had.
        positions: The number of tokens that count.
        reduction: The reduction that reads them out.
    """

    x: Tensor
    sequences: Tensor
    grid: torch.Size
    positions: int
    reduction: ReadingOut


@dataclass(eq=False)
class KeptPredictions(Kept[PositionsPiece]):
    """What became of the predictions at one call of a layer.

    Attributes:
        entropy: The average of their entropies; ``None`` before the first pass was over.
        divergence: The average of their divergences from the final ones.
        positions: The number of positions that counted.
        read: The number of those at which predictions were read out.
    """

    entropy: Average | None = None
    divergence: Average | None = None
    positions: int = 0
    read: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether no call could be measured yet."""
        return self.entropy is None

    def finish(self, piece: PositionsPiece, entropy: Outcomes, divergence: Outcomes) -> None:
        """Takes in what was read out at the positions of a pass."""
        self.positions += piece.positions
        self.read += len(piece.x)
        averages = [Average.of(x, piece.sequences, piece.n) for x in (entropy, divergence)]
        if self.entropy is None or self.divergence is None:
            self.entropy, self.divergence = averages
        else:
            self.entropy, self.divergence = (
                self.entropy + averages[0],
                self.divergence + averages[1],
            )

    def _add(self, piece: PositionsPiece, run: Pass) -> bool:
        run.unfinished.setdefault(piece.reduction, []).append((self, piece))
        return False

    def _merge(self, other: KeptPredictions, merging: Merging | None) -> None:
        self.positions += other.positions
        self.read += other.read
        if other.entropy is None or other.divergence is None:
            return
        if self.entropy is None or self.divergence is None:
            self.entropy, self.divergence = other.entropy, other.divergence
        else:
            self.entropy = self.entropy + other.entropy
            self.divergence = self.divergence + other.divergence

    def _pooled(
        self, agreed: Mapping[str, Any], survivors: Survivors | None, exchange: Exchange
    ) -> Answered[tuple[KeptPredictions, KeptPredictions]]:
        entropies = yield from pooled(self.entropy)
        divergences = yield from pooled(self.divergence)
        own = torch.tensor([self.positions, self.read], device="cpu")
        numbers = yield total(own)
        whole, rest = (
            KeptPredictions(entropy=h, divergence=kl, positions=positions, read=read)
            for h, kl, (positions, read) in zip(
                entropies, divergences, [numbers.tolist(), (numbers - own).tolist()], strict=True
            )
        )
        return whole, rest

    def _state(self) -> dict[str, Any]:
        return {
            "entropy": None if self.entropy is None else self.entropy.state_dict(),
            "divergence": None if self.divergence is None else self.divergence.state_dict(),
            "positions": self.positions,
            "read": self.read,
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self.entropy, self.divergence = (
            None if state[name] is None else Average.from_state_dict(state[name])
            for name in ("entropy", "divergence")
        )
        self.positions, self.read = count_of(state["positions"]), count_of(state["read"])


@dataclass(frozen=True, eq=False)
class ReadingOut(TensorReduction):
    """Predictions are read out at some positions of each pass, the same at every layer.

    While the pass lasts, the layers' vectors at these positions are kept; when it is over, they
    are read out block by block, and only averages remain.

    Attributes:
        read_out: What turns vectors into logits.
        positions: The most positions of a pass.
    """

    read_out: ReadOut
    positions: int

    takes_for_independent: ClassVar[bool] = True

    def empty(self) -> KeptPredictions:
        """Nothing kept yet."""
        return KeptPredictions()

    def reduce(self, tensors: list[Tensor], run: Pass) -> PositionsPiece:
        """The vectors of one call at the chosen positions."""
        x = tokens_of(tensors)
        grid = x.shape[:2]
        there = run.places(x, self.positions).to(x.device, non_blocking=True)
        return PositionsPiece(
            n=len(x),
            values=x.numel(),
            x=x.flatten(0, 1).index_select(0, there),
            sequences=there // grid[1],
            grid=grid,
            positions=len(run.places(x)),
            reduction=self,
        )

    def finish(
        self, pieces: Sequence[tuple[KeptPredictions, PositionsPiece]], completed: bool
    ) -> None:
        """Reads out what was kept of one pass, if it has a final prediction."""
        if not completed:
            for kept, _ in pieces:
                kept.leave_out(_UNFINISHED, "A pass")
            return
        with self.read_out.prepared(pieces[0][1].x) as logits:
            readable = []
            for kept, piece in pieces:
                problem, size = _tried(logits, piece.x)
                if problem is not None:
                    kept.leave_out(problem, "")
                else:
                    readable.append((kept, piece, size))
            if not readable:
                return
            _, final, vocabulary = readable[-1]
            alike = []
            for kept, piece, size in readable:
                if size == vocabulary and piece.grid == final.grid:
                    alike.append((kept, piece))
                else:
                    kept.leave_out(_OTHER_SHAPE, "")
            rows = max(1, _BLOCK // vocabulary)
            found = _read(logits, [piece.x for _, piece in alike], rows)
        for (kept, piece), (entropy, divergence) in zip(alike, found, strict=True):
            kept.finish(piece, Outcomes.of(entropy), Outcomes.of(divergence))

    def together(
        self, kept: Sequence[Kept[Any]], reservoir: Reservoir | None
    ) -> list[KeptPredictions]:
        """What became of the predictions at each."""
        return [x for x in kept if isinstance(x, KeptPredictions)]

    def remarks(
        self,
        kept: Mapping[Role, Kept[Any]],
        used: int,
        seed: int,
        reservoir: Reservoir | None,
    ) -> Iterator[str]:
        """That random positions stand for all."""
        output = list(kept.values())[-1]
        if isinstance(output, KeptPredictions) and output.read < output.positions:
            yield (
                f"It was computed from {output.read:,} of {output.positions:,} positions, drawn "
                f"at random in every pass (seed {seed}), the same at every layer."
            )


_OTHER_SHAPE = Problem(
    "It has no value: the layer's positions or its vocabulary are not those of the final "
    "prediction. Choose the blocks alone by layers=.",
    applies=False,
)
_UNFINISHED = Problem(
    "it raised an error or returned nothing, so that there is no final prediction.",
)


def _tried(logits: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Problem | None, int]:
    """Why some vectors cannot be read out, or else the size of the vocabulary."""
    try:
        got = logits(x[:_FIRST])
        if isinstance(got, Tensor) and got.dim() == 2 and len(got) == len(x[:_FIRST]):
            return None, got.shape[1]
        shape = tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__
        reason = f"it returned {shape} for vectors {tuple(x[:_FIRST].shape)}"
    except Exception as error:  # reported on the row, not raised in the user's forward
        reason = f"{type(error).__name__}: {error}"
    return Problem(f"It has no value: the read-out does not fit, {reason}.", applies=False), 0


def _read(
    logits: Callable[[Tensor], Tensor], layers: Sequence[Tensor], rows: int
) -> list[tuple[Tensor, Tensor]]:
    """Entropies, and divergences from the last layer, at all positions (m, d) of each layer.

    There are never more than three blocks of ``rows`` distributions at once.
    """
    blocks: list[list[tuple[Tensor, Tensor]]] = [[] for _ in layers]
    for i in range(0, len(layers[-1]), rows):
        final = Predictions.of(logits(layers[-1][i : i + rows]))
        for found, x in zip(blocks, layers, strict=True):
            last = x is layers[-1]
            q = final if last else Predictions.of(logits(x[i : i + rows]))
            found.append((entropies(q), divergences(final, q)))
    return [
        (torch.cat([h for h, _ in found]), torch.cat([kl for _, kl in found])) for found in blocks
    ]
