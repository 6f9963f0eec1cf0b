"""Samples go through a map, batch by batch, and leave no trace on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.libraries.adapter import Conditions, Tensors
from infoprobe.libraries.lookup import library_of, run
from infoprobe.libraries.wrappers import unwrapped
from infoprobe.maps.jacobians import LARGEST, Spectra, jacobian, slice_length, spectra
from infoprobe.progress import progress_bar
from infoprobe.torch_internals import is_batch_norm, is_dropout

# A map counts as inverted if points come back this close, relative to the spread of the samples;
# and a sample as independent of the others if its output moves no more than that with them.
INVERTED = 1e-3

Map: TypeAlias = Callable[..., Any]
"""What samples go through: a module, a transform or a function; Any, since libraries differ."""


@dataclass(frozen=True, eq=False)
class Passage:
    """Samples and the map that they go through.

    Arguments:
        module: The map, as in :func:`infoprobe.libraries.lookup.run`.
        xs: The samples, each tensor (n, ...).
        c: The conditions; tensors of length n are split along with the samples.
        rev: Whether the map runs backwards.
        rows: The number of samples that may go through at a time.
    """

    module: Any
    xs: Tensors
    c: Conditions
    rev: bool
    rows: int

    @classmethod
    def of(cls, module: Map, x: Any, c: Any, rev: bool, rows: int) -> Passage:
        """A passage of what a caller gives, which is checked.

        Raises:
            TypeError: The samples are not floating-point numbers.
            ValueError: They are not finite, or the module is in a state in which it is not a map.
        """
        rows = checks.require_integer(rows, 1, None, "batch_size")
        rev = checks.require_bool(rev, "rev")
        several = isinstance(x, (tuple, list)) and any(isinstance(part, Tensor) for part in x)
        names = [f"x[{i}]" for i in range(len(x))] if several else ["x"]
        parts = x if several else [x]
        xs = tuple(_samples(part, label) for part, label in zip(parts, names, strict=True))
        checks.require_same_length(**dict(zip(names, xs, strict=True)))
        conditions = () if c is None else tuple(c) if isinstance(c, (tuple, list)) else (c,)
        _require_ready(_owner(module))
        return cls(module, xs, conditions, rev, rows)

    @property
    def n(self) -> int:
        """The number of samples."""
        return len(self.xs[0])

    @property
    def d(self) -> int:
        """The number of inputs of a sample."""
        return sum(x[0].numel() for x in self.xs)

    @property
    def sizes(self) -> tuple[int, int]:
        """The numbers of inputs and of outputs of a sample."""
        values, _ = self.first(1).run(log_determinant=False)
        return self.d, sum(value[0].numel() for value in values)

    def first(self, n: int) -> Passage:
        """The passage of the first n samples alone."""
        return self._slice(slice(0, n))

    def parts(self) -> dict[str, Passage]:
        """The passage through each map inside a network, forward, by the names of the maps."""
        module = unwrapped(self.module)
        found = library_of(module).parts(module, self.run)
        return {
            name: Passage(part.module, part.inputs, part.conditions, False, self.rows)
            for name, part in found.items()
        }

    def back(self, values: Tensors) -> Passage:
        """The passage of the map's outputs in the other direction."""
        return Passage(self.module, values, self.c, not self.rev, self.rows)

    def batches(self, rows: int) -> Iterator[Passage]:
        """The passages of ``rows`` samples at a time."""
        for start in range(0, self.n, rows):
            yield self._slice(slice(start, start + rows))

    def run(self, *, log_determinant: bool = True) -> tuple[Tensors, Tensor | None]:
        """The outputs, and the log|det J| that the map reports in nats, (n,) or ``None``."""
        try:
            with torch.no_grad():
                values, reported = self._run(log_determinant)
        except RuntimeError as error:
            if not _asks_for_gradients(error):
                raise
            values, reported = self._run(log_determinant)
        for value in values:
            if value.dim() == 0 or len(value) != self.n:
                raise ArgumentValueError(
                    "module",
                    f"expected an output for each of {self.n:,} samples, got shape "
                    f"{tuple(value.shape)}. Return them along the first axis.",
                )
            if not value.isfinite().all():
                raise ArgumentValueError(
                    "x",
                    f"expected samples that the module maps to finite values, got "
                    f"{int((~value.isfinite()).sum()):,} of {value.numel():,} that are not. Leave "
                    "out the samples from which they come: they may lie outside of its domain.",
                )
        return tuple(value.detach() for value in values), (
            None if reported is None else reported.detach()
        )

    def _run(self, log_determinant: bool) -> tuple[Tensors, Tensor | None]:
        # Some modules write into what they are given; some log-determinants take gradients.
        xs = tuple(x.clone().requires_grad_().clone() for x in self.xs)
        return run(self.module, xs, self.c, rev=self.rev, log_determinant=log_determinant)

    def check_independence(self) -> None:
        """Raises a ValueError if a sample's output is random or depends on the others."""
        whole = self.first(self.rows)
        half = whole.first((whole.n + 1) // 2)
        for together, alone in zip(
            whole.run(log_determinant=False)[0],
            half.run(log_determinant=False)[0],
            strict=True,
        ):
            together = together[: len(alone)]
            off = float((together - alone).abs().max())
            if not off <= INVERTED * _scale(alone):
                raise ArgumentValueError(
                    "module",
                    "expected a map that treats each sample on its own and always in the "
                    f"same way, but outputs moved by {off:.3g} when fewer samples came along. "
                    "Switch off batch statistics, dropout and other noise: module.eval().",
                )

    def spectra(self) -> Spectra:
        """The singular values of the map's Jacobians at the samples, by autograd.

        Raises:
            ValueError: The samples have too many numbers.
        """
        inputs, outputs = self.sizes
        if inputs > LARGEST:
            raise ArgumentValueError(
                "x",
                f"expected at most {LARGEST:,} numbers a sample for a Jacobian by autograd, "
                f"got d={inputs:,}. Pass a module that gives its log-determinant, or its parts "
                "one by one: what they do to the entropy adds up.",
            )
        length = slice_length(inputs, outputs, self.rows)
        parts = []
        with progress_bar(-(-self.n // length), "Jacobians", unit="batch") as bar:
            for batch in self.batches(length):
                parts.append(batch._spectra_at_once())
                bar.update()
        return Spectra(*map(torch.cat, zip(*parts, strict=True)))

    def _spectra_at_once(self) -> Spectra:
        if self.rev and self.inverts(values := self.run(log_determinant=False)[0]):
            there = self.back(values)
            if there.d == self.d:
                # Autograd sees only the last step of an inverse that iterates.
                found = there._spectra_at_once()
                return found._replace(
                    singular_values=1 / found.singular_values.flip(1),
                    log_volume=-found.log_volume,
                )
        flat = torch.cat([x.reshape(self.n, -1) for x in self.xs], 1)

        def function(rows: Tensor) -> Tensor:
            parts = torch.split(rows.clone(), [x[0].numel() for x in self.xs], 1)
            xs = tuple(part.view_as(x) for part, x in zip(parts, self.xs, strict=True))
            values, _ = run(self.module, xs, self.c, rev=self.rev, log_determinant=False)
            return torch.cat([value.reshape(len(rows), -1) for value in values], 1)

        return spectra(jacobian(function, flat, self.rows))

    def inverts(self, values: Tensors) -> bool:
        """Whether the way back from the map's outputs leads to the samples."""
        return self.inversion_errors(values)[1] <= INVERTED

    def inversion_errors(self, values: Tensors) -> tuple[float, float]:
        """The largest |x - f^-1(f(x))|, and the same relative to the spread of x.

        Both are infinite if what comes back has another shape.
        """
        returned = self.back(values).run(log_determinant=False)[0]
        if [x.shape for x in returned] != [x.shape for x in self.xs]:
            return float("inf"), float("inf")
        pairs = list(zip(self.xs, returned, strict=True))
        errors = [float((x.double() - y).abs().max()) for x, y in pairs]
        ratios = [e / _scale(x) for e, (x, _) in zip(errors, pairs, strict=True)]
        return max(errors), max(ratios)

    def _slice(self, rows: slice) -> Passage:
        c = tuple(
            part[rows] if isinstance(part, Tensor) and part.dim() and len(part) == self.n else part
            for part in self.c
        )
        return Passage(self.module, tuple(x[rows] for x in self.xs), c, self.rev, self.rows)


@contextlib.contextmanager
def undisturbed(passage: Passage) -> Iterator[None]:
    """A ``with`` block after which the random state and a module's buffers are as before."""
    owner = _owner(passage.module)
    buffers = [(buffer, buffer.clone()) for buffer in owner.buffers()] if owner is not None else []
    device = passage.xs[0].device
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    if not torch.equal(buffer, before):
                        buffer.copy_(before)


def _samples(x: Any, name: str) -> Tensor:
    tensor = checks.as_tensor(x, name)
    if not tensor.is_floating_point():
        raise ArgumentTypeError(
            name,
            f"expected floating-point samples, got {tensor.dtype}. Only continuous variables "
            "have log-determinants: pass x.float(), in the units that the module works on.",
        )
    if tensor.dim() == 0:
        raise ArgumentValueError(
            name, "expected samples along the first axis, got a single number."
        )
    checks.extent(tensor.detach(), name)
    return tensor.detach()


def _scale(x: Tensor) -> float:
    """The standard deviation of all numbers; of a constant its magnitude, or 1."""
    x = x.double()
    return float((x - x.mean()).square().mean().sqrt()) or float(x.abs().max()) or 1.0


def _asks_for_gradients(error: BaseException | None) -> bool:
    """Whether an error, or the error that caused it, says that gradients are switched off."""
    return error is not None and (
        "does not require grad" in str(error) or _asks_for_gradients(error.__cause__)
    )


def _owner(module: Any) -> nn.Module | None:
    """The module that a map is, or the module whose method it is."""
    owner = getattr(module, "__self__", module)
    return owner if isinstance(owner, nn.Module) else None


def _require_ready(module: nn.Module | None) -> None:
    """Raises a ValueError if running the module would initialise it, or if it is not a map."""
    for name, part in module.named_modules() if module is not None else []:
        label = f"{name or 'module'} ({type(part).__name__})"
        lazy = any(map(nn.parameter.is_lazy, part.parameters(recurse=False)))
        if lazy or library_of(part).awaits_data(part):
            raise ArgumentValueError(
                "module",
                f"expected an initialised module, but {label} takes its parameters from the "
                "first batch that it sees. Run it on a batch first.",
            )
        if _mixes_samples(part):
            raise ArgumentValueError(
                "module",
                f"expected a map that treats each sample on its own and always in the "
                f"same way, but {label} works with batch statistics or noise. Call "
                "module.eval() first.",
            )


def _mixes_samples(part: nn.Module) -> bool:
    """Whether a layer of torch's works with batch statistics, or draws random numbers."""
    if is_batch_norm(part):
        return part.training or part.running_mean is None
    if is_dropout(part):
        return part.training and part.p > 0
    return part.training and isinstance(part, nn.RReLU)
