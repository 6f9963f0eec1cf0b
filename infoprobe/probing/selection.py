"""Which parts of a tensor are samples: sequences, their tokens, or one token of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from infoprobe import checks
from infoprobe.devices import send
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.probing.functions import OwnFunction

Select: TypeAlias = str | int | Callable[[Tensor], Any] | None
"""What a user asks for: see :func:`require_select`."""

_NAMES = ["tokens", "positions", "last", "first"]


class DoesNotApplyError(ArgumentValueError):
    """A layer has no such samples; it is no mistake, and nobody need be warned."""


class Chosen(OwnFunction):
    """A function of the user's that takes samples out of a tensor."""

    def __call__(self, x: Tensor) -> Tensor:
        """The samples in ``x``.

        Raises:
            TypeError, ValueError: The function fails, or returns something else.
        """
        try:
            samples = self.function(x)
        except Exception as error:
            raise ArgumentValueError(
                "select",
                f"expected a function that takes the samples out of every tensor that the measure "
                f"is about, got one that fails at shape {tuple(x.shape)}: {self!r} raises "
                f"{type(error).__name__}: {error}. Choose other layers, or another function.",
            ) from error
        if not isinstance(samples, Tensor) or not samples.dim():
            raise ArgumentTypeError(
                "select",
                f"expected a function that returns a tensor with the samples along the first "
                f"axis, got {checks.shown(samples)} from {self!r}. Return x[:, 0], for example.",
            )
        if not len(samples):
            raise ArgumentValueError(
                "select",
                f"expected a function that finds samples, got one that finds none: {self!r}. "
                "Choose others.",
            )
        return samples


def require_select(select: Any) -> Select:
    """What ``select=`` of a measure stands for, checked.

    ``None`` for the entries along the first axis; ``"tokens"`` for all tokens of the sequences
    (n, t, d); ``"first"``, ``"last"`` or an integer for one token of each sequence, counted among
    those that are not masked; ``"positions"`` for those of images (n, c, h, w); or a function
    that is given a tensor and returns a tensor with the samples along the first axis.

    Raises:
        TypeError, ValueError: It is something else.
    """
    if select is None or isinstance(select, Chosen):
        return select
    if isinstance(select, str):
        checks.require_one_of(select, _NAMES, "select")
        return select
    if callable(select) and not isinstance(select, type):
        return Chosen(select)
    if isinstance(select, bool) or not isinstance(select, (int, np.integer)):
        raise ArgumentTypeError(
            "select",
            "expected 'tokens', 'positions', 'last', 'first', the number of a token, a function "
            f"or None, got {checks.typed(select)}.",
        )
    return int(select)


class Tokens:
    """Which tokens the sequences of one pass have, and where they stand in its tensors.

    The mask is read on the host, once, so that no device has to be asked which tokens count.

    Arguments:
        mask: Which tokens count, (n, t), bool, on the CPU; ``None`` if all do.
        given: The model's input; ``None`` if there is none.

    Attributes:
        shape: The shape of the mask; ``None`` if there is none.
        padded: Whether some token does not count, or it is unknown which.
    """

    def __init__(self, mask: Tensor | None = None, given: Tensor | None = None) -> None:
        self._mask = mask
        self.shape: torch.Size | None = None if mask is None else mask.shape
        self._given = given
        self._sequences = 0 if given is None else checks.length(given)
        self.padded: bool = mask is not None and not (bool(mask.all()) and self._fits)
        self._places: dict[tuple[Select, torch.Size], Tensor | None] = {}
        self._moved: dict[tuple[Select, torch.Size, torch.device], Tensor] = {}

    def samples(self, select: Select, x: Tensor) -> Tensor:
        """The samples in a tensor, along the first axis.

        Raises:
            DoesNotApplyError: The tensor has no such samples.
            TypeError, ValueError: There are none, or the mask does not fit the model's input.
        """
        self._require_fitting_mask()
        if select is None:
            self._require_whole(x)
            return x
        if isinstance(select, Chosen):
            return select(x)
        cells = self._cells(select, x)
        if cells is None:
            return self._of_sequences(select, x)
        grid = cells.shape[:-1] if select == "positions" else cells.shape[:2]
        self.require_tokens_of_mask(grid, x)
        return self._picked(select, grid, cells.flatten(0, len(grid) - 1))

    def require_tokens_of_mask(self, grid: torch.Size, x: Tensor) -> None:
        """Raises a DoesNotApplyError if a tensor, which has a grid of tokens, has others."""
        self._require_fitting_mask()
        if self._mask is not None and grid != self._mask.shape:
            raise DoesNotApplyError(
                "x",
                f"It does not apply: shape {tuple(x.shape)} does not have the tokens of the mask, "
                f"whose shape is {tuple(self._mask.shape)}.",
            )

    def require_tokens_in_all(self) -> None:
        """Raises a ValueError if a sequence has no token that counts, so that it has no mean."""
        if self._mask is not None and self.padded:
            empty = int((~self._mask.flatten(1).any(1)).sum())
            if empty:
                raise ArgumentValueError(
                    "mask",
                    f"expected a token that counts in each of {len(self._mask):,} sequences, got "
                    f"{empty:,} without any, which have no mean. Leave them out of the batch.",
                )

    def padding(self, x: Tensor) -> Select:
        """Which samples of a tensor are left if values that the mask leaves out do not count.

        Returns:
            ``None`` if all values count.
        """
        if self._mask is None or not self.padded:
            return None
        if has_tokens(x) and x.shape[:2] == self._mask.shape:
            return "tokens"
        images = x.dim() >= _IMAGES and x.movedim(1, -1).shape[:-1] == self._mask.shape
        return "positions" if images else None

    def target(self, select: Select, target: Tensor) -> Tensor:
        """A target with a value for each token, which may be that of its sequence.

        Arguments:
            select: How the samples are chosen.
            target: One value or vector for each sequence, (n, ...), or for each token,
                (n, t, ...).

        Returns:
            A tensor in which :meth:`samples` finds as many as in a layer's output.
        """
        if select is None:
            self._require_one_each(target)
        if select is None or isinstance(select, Chosen):
            return target
        grid = self._grid_of_positions if select == "positions" else self._grid
        if grid is None:
            raise DoesNotApplyError(
                "target",
                "It does not apply: the model's input has no tokens that the target could be "
                "about. Give their mask by probe.mask(...).",
            )
        if target.shape[: len(grid)] != grid:
            if checks.length(target) != grid[0]:
                flat = checks.length(target) == grid.numel()
                raise ArgumentValueError(
                    "target",
                    f"expected shape ({grid[0]}, ...) with one for each sequence, or "
                    f"{_shape_of_tokens(grid)} with one for each token, got "
                    f"{tuple(target.shape)}. "
                    f"{'Reshape it' if flat else 'Pass what belongs to the batch'}.",
                )
            ones = (1,) * (len(grid) - 1)
            target = target.reshape(grid[0], *ones, -1).expand(*grid, -1)
        cells = target.reshape(*grid, -1)
        return cells.movedim(-1, 1) if select == "positions" else cells

    def _require_one_each(self, target: Tensor) -> None:
        if self._given is None or checks.length(target) == self._sequences or not self._sequences:
            return
        grid = self._grid
        of_tokens = grid is not None and checks.length(target) == grid.numel()
        raise ArgumentValueError(
            "target",
            f"expected one for each of {self._sequences:,} samples, as the model was given shape "
            f"{tuple(self._given.shape)}, got shape {tuple(target.shape)}. "
            + (
                f"Of tokens, reshape it to {_shape_of_tokens(grid)} and use select='tokens'."
                if grid is not None and of_tokens
                else "Pass what belongs to the batch."
            ),
        )

    def count(self, select: Select) -> int | None:
        """How many samples the pass has; ``None`` where only its tensors tell."""
        if select is None:
            return self._sequences
        grid = self._grid_of_positions if select == "positions" else self._grid
        if grid is None or isinstance(select, Chosen):
            return None
        places = self._at(select, grid)
        return grid.numel() if places is None else len(places)

    def sizes(self, select: Select, samples: int, blocks: int) -> list[int]:
        """How many samples lie in each of some blocks of whole sequences, one after the other.

        Arguments:
            select: How they were chosen.
            samples: The number of samples of the pass.
            blocks: The number of blocks.
        """
        n = self._sequences
        each = torch.ones(samples, dtype=torch.int64, device="cpu")
        if n and samples % n == 0:
            each = torch.full((n,), samples // n, device="cpu")
        if self._mask is not None and not (select is None or isinstance(select, Chosen)):
            kept = torch.bincount(self._owners(select, self._mask.shape), minlength=n)
            each = kept if int(kept.sum()) == samples else each
        return [int(part.sum()) for part in torch.tensor_split(each, blocks)]

    def origins(self, select: Select, samples: Tensor) -> tuple[Tensor, Tensor] | None:
        """Of some samples the sequences and the places therein, (m,); ``None`` if unknown.

        Arguments:
            select: How they were chosen.
            samples: Their numbers within the pass, (m,), int64, on the CPU.
        """
        if select is None:
            return samples, torch.zeros_like(samples)
        if self.count(select) is None:
            return None
        grid = self._grid_of_positions if select == "positions" else self._grid
        assert grid is not None
        places = self._at(select, grid)
        at = samples if places is None else places[samples]
        return at // grid[1:].numel(), at % grid[1:].numel()

    # Where the samples stand.

    @property
    def _grid(self) -> torch.Size | None:
        """The shape (n, t) of the tokens, as far as it is known from the mask and the input."""
        if self._mask is not None:
            return self._mask.shape
        there = self._given is not None and has_tokens(self._given)
        return self._given.shape[:2] if there and self._given is not None else None

    @property
    def _grid_of_positions(self) -> torch.Size | None:
        if self._given is None or self._given.dim() < _IMAGES:
            return None
        return torch.Size([self._given.shape[0], *self._given.shape[2:]])

    def _cells(self, select: Select, x: Tensor) -> Tensor | None:
        """The tensor as (n, ..., d) with a cell for each token; ``None`` if it has none."""
        if select == "positions":
            if x.dim() < _IMAGES:
                raise DoesNotApplyError(
                    "x",
                    f"It does not apply: shape {tuple(x.shape)} has no positions (n, c, ...).",
                )
            return x.movedim(1, -1)
        if has_tokens(x):
            return x
        if select == "tokens" or x.dim() > 2:
            raise DoesNotApplyError(
                "x", f"It does not apply: shape {tuple(x.shape)} has no tokens (n, t, d)."
            )
        return None

    def _of_sequences(self, select: Select, x: Tensor) -> Tensor:
        """What there is once for each sequence, of those that have the chosen token."""
        if self._mask is None:
            return x
        if checks.length(x) != len(self._mask):
            raise DoesNotApplyError(
                "x",
                f"It does not apply: shape {tuple(x.shape)} does not have the {len(self._mask):,} "
                "sequences of the mask.",
            )
        return x.index_select(0, send(self._owners(select, self._mask.shape), x.device))

    def _picked(self, select: Select, grid: torch.Size, flat: Tensor) -> Tensor:
        places = self._at(select, grid)
        if places is None:
            return flat
        key = select, grid, flat.device
        if key not in self._moved:
            self._moved[key] = send(places, flat.device)
        return flat.index_select(0, self._moved[key])

    def _owners(self, select: Select, grid: torch.Size) -> Tensor:
        """The sequence of each sample: (samples,), int64, on the CPU."""
        places = self._at(select, grid)
        places = torch.arange(grid.numel(), device="cpu") if places is None else places
        return places // grid[1:].numel()

    def _at(self, select: Select, grid: torch.Size) -> Tensor | None:
        """The places of the samples in the grid of all tokens, (samples,); ``None`` for all."""
        if (select, grid) not in self._places:
            self._places[select, grid] = self._found(select, grid)
        return self._places[select, grid]

    def _found(self, select: Select, grid: torch.Size) -> Tensor | None:
        everything = select in ("tokens", "positions")
        if everything and not self.padded:
            return None
        if everything and self._mask is not None:
            places = self._mask.flatten().nonzero().squeeze(1)
        else:
            number = {"first": 0, "last": -1}.get(str(select), select)
            assert isinstance(number, int)
            mask = self._mask
            if mask is None or mask.shape != grid:
                mask = torch.ones(grid, dtype=torch.bool, device="cpu")
            before = mask.cumsum(1)
            rank = before - 1 if number >= 0 else before - before[:, -1:] - 1
            places = (mask & (rank == number)).flatten().nonzero().squeeze(1)
        if self._mask is not None and not bool(self._mask.any()):
            raise ArgumentValueError(
                "mask",
                f"expected a token that counts, got a mask of shape {tuple(self._mask.shape)} "
                "that leaves out all of them. Leave out such a batch.",
            )
        if not len(places):
            raise ArgumentValueError(
                "select",
                f"expected samples, but no sequence has what select={select!r} asks for: "
                f"{'the mask leaves' if self.padded else 'there are'} at most "
                f"{self._longest(grid):,} tokens in one. Choose another token, or another mask.",
            )
        return places

    def _longest(self, grid: torch.Size) -> int:
        return grid[1:].numel() if self._mask is None else int(self._mask.flatten(1).sum(1).max())

    # Whether the mask fits.

    @property
    def _fits(self) -> bool:
        mask, given = self._mask, self._given
        if mask is None or given is None:
            return True
        tokens = given.shape[:2] if has_tokens(given) else mask.shape
        return self._sequences == len(mask) and tokens == mask.shape

    def _require_fitting_mask(self) -> None:
        if not self._fits and self._given is not None and self._mask is not None:
            raise ArgumentValueError(
                "mask",
                f"expected the shape (n, t) of the model's input, which has shape "
                f"{tuple(self._given.shape)}, got {tuple(self._mask.shape)}. Give probe.mask(...) "
                "the mask of this batch.",
            )

    def _require_whole(self, x: Tensor) -> None:
        mask = self._mask
        if mask is not None and self.padding(x) is not None:
            raise ArgumentValueError(
                "select",
                "expected 'tokens', 'last', 'first' or another choice of tokens, got None while "
                f"the mask leaves out {int((~mask).sum()):,} of {mask.numel():,} tokens: samples "
                "would be whole sequences with their padding.",
            )


_IMAGES = 3


def _shape_of_tokens(grid: torch.Size) -> str:
    return f"({', '.join(map(str, grid))}, ...)"


def has_tokens(x: Tensor) -> bool:
    """Whether a tensor is (n, t, d), or (n, t) of integers, which are symbols."""
    return x.dim() == 3 or (x.dim() == 2 and not (x.is_floating_point() or x.is_complex()))
