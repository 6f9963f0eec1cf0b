"""A map and the samples that go through it, batch by batch, leaving no trace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.libraries import running as logdets
from infoprobe.libraries.running import Tensors
from infoprobe.maps.jacobians import LARGEST, Volumes, jacobian, slice_length, volumes

# How far off a point may come back, relative to the spread of the samples, and still the map
# counts as inverted; and how much of that a sample may depend on others.
INVERTED = 1e-3


@dataclass(frozen=True, eq=False)
class Passage:
    """Samples and the map that they go through.

    Arguments:
        module: The map, as in :func:`infoprobe.libraries.running.run`.
        xs: The samples, each tensor (n, ...).
        c: Conditions; tensors with n rows go along with the samples.
        rev: Whether the map runs backwards.
        rows: How many samples may go through at a time.
    """

    module: Any
    xs: Tensors
    c: tuple[Any, ...]
    rev: bool
    rows: int

    @classmethod
    def of(cls, module: Any, x: Any, c: Any, rev: bool, rows: int) -> Passage:
        """A passage from what a caller gives, which is checked.

        Raises:
            TypeError: The samples are no floating-point numbers.
            ValueError: They are not finite, or the module is in a state in which it gives no map.
        """
        checks.require_integer(rows, 1, None, "batch_size")
        several = isinstance(x, (tuple, list)) and any(isinstance(part, Tensor) for part in x)
        names = [f"x[{i}]" for i in range(len(x))] if several else ["x"]
        parts = x if several else [x]
        xs = tuple(_samples(part, label) for part, label in zip(parts, names, strict=True))
        checks.require_same_length(**dict(zip(names, xs, strict=True)))
        conditions = () if c is None else tuple(c) if isinstance(c, (tuple, list)) else (c,)
        _ready(_owner(module))
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
        values, _ = self.first(1).run(claim=False)
        return self.d, sum(value[0].numel() for value in values)

    def first(self, n: int) -> Passage:
        """Of the first n samples alone."""
        return self._rows(slice(0, n))

    def parts(self) -> dict[str, Passage]:
        """The way through each module of a FrEIA graph, forward, by the modules' names."""
        found = logdets.inputs_of_parts(self.module, self.run)
        return {
            name: Passage(part, xs, () if c is None else tuple(c), False, self.rows)
            for name, (part, xs, c) in found.items()
        }

    def back(self, values: Tensors) -> Passage:
        """The way back, of what the map gave."""
        return Passage(self.module, values, self.c, not self.rev, self.rows)

    def batches(self, rows: int) -> Iterator[Passage]:
        """The samples in parts of ``rows``."""
        for start in range(0, self.n, rows):
            yield self._rows(slice(start, start + rows))

    def run(self, *, claim: bool = True) -> tuple[Tensors, Tensor | None]:
        """What comes out, and what the map claims of log|det J|, (n,) or ``None``."""
        try:
            with torch.no_grad():
                values, claimed = self._run(claim)
        except RuntimeError as error:
            if not _asks_for_gradients(error):
                raise
            values, claimed = self._run(claim)
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
                    "out the samples from which they come, which may lie outside of its domain.",
                )
        return tuple(value.detach() for value in values), claimed

    def _run(self, claim: bool) -> tuple[Tensors, Tensor | None]:
        # Some modules write into what they are given; some log-determinants take gradients.
        xs = tuple(x.clone().requires_grad_().clone() for x in self.xs)
        return logdets.run(self.module, xs, self.c, rev=self.rev, claim=claim)

    def check_independence(self) -> None:
        """Raises a ValueError if a sample's output is random or depends on the others."""
        whole = self.first(self.rows)
        half = whole.first((whole.n + 1) // 2)
        for together, alone in zip(
            whole.run(claim=False)[0], half.run(claim=False)[0], strict=True
        ):
            together = together[: len(alone)]
            off = float((together - alone).abs().max())
            if not off <= INVERTED * _spread(alone):
                raise ArgumentValueError(
                    "module",
                    "expected a map that treats each sample on its own and always in the "
                    f"same way, but outputs moved by {off:.3g} when fewer samples came along. "
                    "Switch off batch statistics, dropout and other noise: module.eval().",
                )

    def volumes(self) -> Volumes:
        """Exact log volumes by autograd.

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
        parts = [batch._volumes() for batch in self.batches(length)]
        return Volumes(*map(torch.cat, zip(*parts, strict=True)))

    def _volumes(self) -> Volumes:
        if self.rev and self.inverts(values := self.run(claim=False)[0]):
            there = self.back(values)
            if there.d == self.d:
                # Autograd sees only the last step of an inverse that iterates.
                found = there._volumes()
                return found._replace(
                    singular_values=1 / found.singular_values.flip(1),
                    log_volume=-found.log_volume,
                )
        flat = torch.cat([x.flatten(1) for x in self.xs], 1)

        def function(rows: Tensor) -> Tensor:
            parts = torch.split(rows.clone(), [x[0].numel() for x in self.xs], 1)
            xs = tuple(part.view_as(x) for part, x in zip(parts, self.xs, strict=True))
            values, _ = logdets.run(self.module, xs, self.c, rev=self.rev, claim=False)
            return torch.cat([value.flatten(1) for value in values], 1)

        return volumes(jacobian(function, flat, self.rows))

    def inverts(self, values: Tensors) -> bool:
        """Whether the way back from what the map gave leads to the samples."""
        return self.inversion_errors(values)[1] <= INVERTED

    def inversion_errors(self, values: Tensors) -> tuple[float, float]:
        """The largest |x - f^-1(f(x))|, and relative to the spread of x; infinite if undefined."""
        returned = self.back(values).run(claim=False)[0]
        if [x.shape for x in returned] != [x.shape for x in self.xs]:
            return float("inf"), float("inf")
        pairs = list(zip(self.xs, returned, strict=True))
        errors = [float((x.double() - y).abs().max()) for x, y in pairs]
        ratios = [e / _spread(x) for e, (x, _) in zip(errors, pairs, strict=True)]
        return max(errors), max(ratios)

    def _rows(self, rows: slice) -> Passage:
        c = tuple(
            part[rows] if isinstance(part, Tensor) and part.dim() and len(part) == self.n else part
            for part in self.c
        )
        return Passage(self.module, tuple(x[rows] for x in self.xs), c, self.rev, self.rows)


@contextlib.contextmanager
def undisturbed(passage: Passage) -> Iterator[None]:
    """Leaves the random state, and the buffers of a module, as they were."""
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
            f"expected floating-point samples, got {tensor.dtype}. Volumes are those of "
            "continuous variables: pass x.float(), of what the module works on.",
        )
    if tensor.dim() == 0:
        raise ArgumentValueError(
            name, "expected samples along the first axis, got a single number."
        )
    checks.extent(tensor.detach(), name)
    return tensor.detach()


def _spread(x: Tensor) -> float:
    """The root mean square deviation from the mean; of a constant its size, or 1."""
    x = x.double()
    return float((x - x.mean()).square().mean().sqrt()) or float(x.abs().max()) or 1.0


def _asks_for_gradients(error: BaseException | None) -> bool:
    """Whether this error, or one that it came from, says that gradients are switched off."""
    return error is not None and (
        "does not require grad" in str(error) or _asks_for_gradients(error.__cause__)
    )


def _owner(module: Any) -> nn.Module | None:
    """The module that this is, or whose method this is."""
    owner = getattr(module, "__self__", module)
    return owner if isinstance(owner, nn.Module) else None


def _ready(module: nn.Module | None) -> None:
    """Raises a ValueError if running the module would initialise it, or give no map."""
    for name, part in module.named_modules() if module is not None else []:
        label = f"{name or 'module'} ({type(part).__name__})"
        if any(map(nn.parameter.is_lazy, part.parameters(recurse=False))) or _uninitialised(part):
            raise ArgumentValueError(
                "module",
                f"expected an initialised one, but {label} takes its parameters from the "
                "first batch that it sees. Run it on such a batch first.",
            )
        if _mixes(part):
            raise ArgumentValueError(
                "module",
                f"expected a map that treats each sample on its own and always in the "
                f"same way, but {label} works with batch statistics or noise. Call "
                "module.eval() first.",
            )


def _uninitialised(part: nn.Module) -> bool:
    """Whether this is an ActNorm, of any library, that has seen no data."""
    done = [
        not getattr(part, "init_on_next_batch", False),
        bool(getattr(part, "is_initialized", True)),
        bool(getattr(part, "data_dep_init_done", True)),
        not part.training or bool(getattr(part, "initialized", True)),
    ]
    return "ActNorm" in type(part).__name__ and not all(done)


def _mixes(part: nn.Module) -> bool:
    if isinstance(part, nn.modules.batchnorm._BatchNorm):
        return part.training or part.running_mean is None
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.training and part.p > 0
    return part.training and isinstance(part, nn.RReLU)
