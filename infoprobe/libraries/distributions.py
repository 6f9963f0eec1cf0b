"""The adapter for the transforms of torch.distributions, and for zuko.

A transform is no module: it is called as ``transform(x)``, ``transform.inv(y)`` runs it
backwards, and ``transform.log_abs_det_jacobian(x, y)`` is its log-determinant. A distribution
may be made of transforms. zuko's modules are lazy: a call of one makes a transform, or a
distribution that is made of transforms.
"""

from __future__ import annotations

import enum
import math
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import ComposeTransform, Distribution, Transform
from torch.distributions import transforms as torch_transforms

from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.findings import Finding
from infoprobe.libraries.adapter import Conditions, Library, Tensors
from infoprobe.libraries.log_determinants import LogDeterminant
from infoprobe.torch_internals import inverse_call


def _area(other: str) -> str:
    """The convention for a surface, and what torch's own would be."""
    finding = Finding(
        "warning",
        "the output lies on a surface, and the value is about the entropy with respect to its "
        f"area, as from ip.entropy_change; in the coordinates of torch's log_abs_det_jacobian it "
        f"is {other}",
        math.nan,
        "Name the convention with the number.",
        code="surface-area",
    )
    return str(finding)


class Use(enum.Enum):
    """What a call of a method does with a transform or a distribution."""

    FORWARD = "runs the transform forward"
    INVERSE = "runs the transform backwards"
    REPETITION = "may run the transform again to know its log-determinant"
    QUESTION = "asks a distribution about a tensor"
    SAMPLING = "draws samples from a distribution"


TRANSFORM_METHODS = {
    "__call__": Use.FORWARD,
    inverse_call(): Use.INVERSE,  # what transform.inv calls
    "call_and_ladj": Use.FORWARD,  # zuko's
    "log_abs_det_jacobian": Use.REPETITION,
}
DISTRIBUTION_METHODS = {
    "log_prob": Use.QUESTION,
    "cdf": Use.QUESTION,
    "icdf": Use.QUESTION,
    "sample": Use.SAMPLING,
    "rsample": Use.SAMPLING,
    "sample_n": Use.SAMPLING,
    "rsample_and_log_prob": Use.SAMPLING,  # zuko's
}


class Distributions(Library):
    """Knows transforms, and zuko's modules that make transforms."""

    def recognises(self, module: object) -> bool:
        """Whether an object is a transform, or makes one."""
        return isinstance(module, Transform) or _is_lazy(module)

    def run(
        self,
        module: Any,
        xs: Tensors,
        conditions: Conditions,
        *,
        rev: bool,
        log_determinant: bool,
    ) -> tuple[Any, Any]:
        """Runs the transform, or the one that a lazy module makes of the conditions."""
        transform: Any = _transform(module, conditions)
        if len(xs) > 1:
            raise ArgumentTypeError(
                "x", f"expected one tensor for {type(module).__name__}, got {len(xs)}."
            )
        (x,) = xs
        if not transform.bijective:
            raise ArgumentValueError(
                "module",
                f"expected a bijective transform, got {type(transform).__name__}, which is not: "
                "its Jacobian does not tell how it changes an entropy.",
            )
        if rev:
            transform = transform.inv
        if not log_determinant:
            return transform(x), None
        if hasattr(transform, "call_and_ladj"):
            y, reported = transform.call_and_ladj(x)
        else:
            y = transform(x)
            try:
                reported = transform.log_abs_det_jacobian(x, y)
            except NotImplementedError:
                return y, None
        # Axes that the transform does not count among its event have log-determinants each.
        return y, reported.reshape(len(x), -1).sum(1)

    def is_map(self, module: nn.Module) -> bool:
        """A call of a lazy module makes a map, but runs none."""
        return False

    def is_link(self, module: nn.Module) -> bool:
        """Whether a module makes a transform."""
        return isinstance(module, _zuko("LazyTransform"))

    def makes_transforms(self, module: nn.Module) -> bool:
        """Whether a module makes a transform or a distribution."""
        return _is_lazy(module)


def is_distribution(module: nn.Module) -> bool:
    """Whether a module is a distribution, of any library, or makes one."""
    methods = [getattr(type(module), name, None) for name in ("log_prob", "sample")]
    return all(map(callable, methods)) or isinstance(module, _zuko("LazyDistribution"))


def is_made_of_transforms(model: object) -> bool:
    """Whether an object is a transform, or a distribution that is made of transforms."""
    return isinstance(model, Transform) or bool(parts_of(model))


def named_transforms(model: Any) -> Iterator[tuple[str, Any, bool]]:
    """A model and all that it is made of: names by position, and whether each has parts.

    A transform that occurs several times has the name of its first position.
    """
    seen: set[int] = set()

    def walk(name: str, one: Any) -> Iterator[tuple[str, Any, bool]]:
        if id(one) not in seen:
            seen.add(id(one))
            parts = parts_of(one)
            yield name, one, bool(parts)
            for i, part in enumerate(parts):
                yield from walk(f"{name}.{i}" if name else str(i), part)

    return walk("", model)


def parts_of(one: object) -> list[Transform]:
    """The transforms that a transform or a distribution runs one after the other."""
    found: Any = []
    if isinstance(one, ComposeTransform):
        found = one.parts
    elif isinstance(one, _zuko("ComposedTransform", "zuko.transforms")):
        found = one.transforms  # type: ignore[attr-defined]
    elif isinstance(one, Distribution):
        single = getattr(one, "transform", None)
        found = getattr(one, "transforms", None) or parts_of(single) or [single]
    return [part for part in found if isinstance(part, Transform)]


# Those whose area is known.
_ONTO_SURFACES = (torch_transforms.StickBreakingTransform, torch_transforms.CorrCholeskyTransform)


def reported_by_call(transform: Any, use: Use, given: list[Tensor], output: Any) -> LogDeterminant:
    """The log-determinant of a transform's call, summed over all but the first axis.

    Arguments:
        transform: The transform.
        use: Whether the call ran it forward or backwards.
        given: The tensor that the call was given, alone in a list.
        output: What the call returned: a tensor, or ``(y, log_det)``.
    """
    with torch.no_grad():
        if isinstance(output, tuple):
            log_det = output[1]
        else:
            (x,), y = given, output
            try:
                if use is Use.FORWARD:
                    log_det = transform.log_abs_det_jacobian(x, y)
                else:
                    log_det = -transform.log_abs_det_jacobian(y, x)
            except NotImplementedError:
                return LogDeterminant(None, "its log_abs_det_jacobian is not implemented.")
        log_det = log_det.flatten(1).sum(1) if log_det.dim() > 1 else log_det
        found = _on_surfaces(transform, use, given[0], _first_of(output), log_det)
    if getattr(transform, "exact", True) is False:  # zuko's FreeFormJacobianTransform
        name = type(transform).__name__
        return found._replace(doubt=f"a stochastic estimate ({name}), not exact.")
    return found


def _first_of(output: Any) -> Tensor:
    """``y`` of ``y`` or ``(y, log_det)``."""
    first: Tensor = output[0] if isinstance(output, tuple) else output
    return first


def _on_surfaces(
    transform: Any, use: Use, given: Tensor, returned: Tensor, log_det: Tensor
) -> LogDeterminant:
    """A log-determinant with respect to area, where a transform maps onto a surface.

    torch takes as many coordinates on the surface as the input has, and leaves out the others.
    """
    inner, outer = (given, returned) if use is Use.FORWARD else (returned, given)
    if inner.numel() == outer.numel():
        return LogDeterminant(log_det)
    sign = 1 if use is Use.FORWARD else -1
    if isinstance(transform.inv, _ONTO_SURFACES):  # it leads back from the surface
        transform, inner, outer, sign = transform.inv, outer, inner, -sign
    if isinstance(transform, torch_transforms.StickBreakingTransform):
        k = outer.shape[-1]
        simplexes = outer[0].numel() // k
        constant = sign * simplexes * math.log(k) / 2
        other = f"{abs(constant):.4g} nats {'less' if constant > 0 else 'more'}"
        return LogDeterminant(log_det + constant, _area(other))
    if isinstance(transform, torch_transforms.CorrCholeskyTransform):
        diagonal = outer.diagonal(dim1=-2, dim2=-1)[..., 1:]
        more = -sign * diagonal.log().flatten(1).sum(1)
        return LogDeterminant(log_det + more, _area("different from sample to sample"))
    return LogDeterminant(
        log_det,
        f"{type(transform).__name__} maps {inner[0].numel():,} numbers to {outer[0].numel():,}, "
        "so its log-determinant is one in coordinates of its own choice.",
    )


def _transform(module: Any, conditions: Conditions) -> Transform:
    """The transform that this is, or that it makes under a condition."""
    if isinstance(module, Transform):
        if conditions:
            raise ArgumentTypeError(
                "c",
                f"expected no condition, since {type(module).__name__} takes none. Leave it out.",
            )
        return module
    made = module(*conditions)
    transform: Any = made if isinstance(made, Transform) else getattr(made, "transform", None)
    if isinstance(transform, Transform):
        return transform
    raise ArgumentTypeError(
        "module",
        f"expected a flow with a transform, got {type(module).__name__}, which makes a "
        f"{type(made).__name__}. Pass the transform itself.",
    )


def _is_lazy(module: object) -> bool:
    return isinstance(module, (*_zuko("LazyTransform"), *_zuko("LazyDistribution")))


def _zuko(name: str, module: str = "zuko.lazy") -> tuple[type, ...]:
    """A class of zuko's, which only the user imports, as a tuple; empty if it is not imported."""
    found = getattr(sys.modules.get(module), name, None)
    return () if found is None else (found,)
