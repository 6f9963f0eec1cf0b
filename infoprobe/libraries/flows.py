"""The adapter for nflows, normflows, anybody's module with an ``inverse``, and plain functions.

A map is called forward and has a method ``inverse``; both return ``(z, log_det)``, or ``z``
alone. What has no inverse, such as a plain function, runs forward only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from infoprobe.errors import ArgumentTypeError
from infoprobe.libraries.adapter import Conditions, Library, Tensors

# The methods through which a flow is used without being called: those that are given a tensor,
# and those that draw samples.
WITH_A_TENSOR = (
    "log_prob",
    "forward_kld",
    "forward_and_log_det",
    "inverse_and_log_det",
    "transform_to_noise",
)
SAMPLING = ("sample", "rsample", "sample_and_log_prob", "reverse_kld", "reverse_alpha_div")


class Flows(Library):
    """Knows everything that no other adapter knows: whatever can be called may be a map."""

    def recognises(self, module: object) -> bool:
        """Always true, so this adapter is asked last."""
        return True

    def run(
        self,
        module: Any,
        xs: Tensors,
        conditions: Conditions,
        *,
        rev: bool,
        log_determinant: bool,
    ) -> tuple[Any, Any]:
        """Calls a module or function, or for the way back the method ``inverse``."""
        function, conditions = _runner(module, conditions, rev)
        given: tuple[Any, ...] = (list(xs),) if _takes_a_list(module) and not rev else xs
        try:
            output = function(*given, *conditions)
        except NotImplementedError as error:
            if not rev:
                raise
            raise _no_inverse(module) from error
        # Only a map with an inverse returns (z, log_det) when it returns two things.
        if self.has_inverse(module) and isinstance(output, (tuple, list)) and len(output) == 2:
            return output[0], output[1]
        if isinstance(output, Tensor):
            return output, None
        raise ArgumentTypeError(
            "module",
            f"expected a map that returns a tensor, got {type(output).__name__} from "
            f"{type(module).__name__}. Pass a function that picks the output: "
            "lambda x: module(x)[0].",
        )

    def has_inverse(self, module: Any) -> bool:
        """Whether a module has a method that runs it backwards."""
        return isinstance(module, nn.Module) and (
            _is_nflows(module)
            or callable(getattr(module, "inverse", None))
            or callable(getattr(module, "inverse_and_log_det", None))
        )

    def is_stochastic(self, module: Any) -> bool:
        """Whether this is an invertible residual block of normflows.

        It estimates a trace from random vectors, and a series by a random number of its terms.
        """
        residual = sys.modules.get("normflows.flows.residual")
        return (
            residual is not None
            and isinstance(module, residual.iResBlock)
            and not module.brute_force
        )

    def is_map(self, module: nn.Module) -> bool:
        """Whether the class of a module has a method ``inverse``."""
        return callable(getattr(type(module), "inverse", None))

    def inverse_methods(self, module: nn.Module) -> tuple[str, ...]:
        """The method ``inverse``."""
        return ("inverse",) if self.is_map(module) else ()


def _runner(
    module: Any, conditions: Conditions, rev: bool
) -> tuple[Callable[..., Any], Conditions]:
    """The function that runs a map in one direction, and the conditions that it takes."""
    if _is_nflows(module):
        conditions = (module._embedding_net(*conditions),) if conditions else ()
        module = module._transform
    names = ["inverse_and_log_det", "inverse"] if rev else ["forward_and_log_det"]
    for name in names if isinstance(module, nn.Module) else []:
        method: Any = getattr(module, name, None)
        if callable(method):
            return method, conditions
    if not callable(module):
        raise ArgumentTypeError(
            "module",
            "expected a module, a transform or a function, got "
            f"{type(module).__name__}. Pass what maps the samples.",
        )
    if rev:
        raise _no_inverse(module)
    return module, conditions


def _no_inverse(module: Any) -> ArgumentTypeError:
    return ArgumentTypeError(
        "module",
        f"expected a map with an inverse to run it backwards, got {type(module).__name__} "
        "without a working method 'inverse'. Pass the map that inverts it as the module, and "
        "rev=False.",
    )


def _is_nflows(module: Any) -> bool:
    """Whether this is a whole flow of nflows: a distribution around a transform."""
    flows = sys.modules.get("nflows.flows.base")
    return flows is not None and isinstance(module, flows.Flow)


def _takes_a_list(module: Any) -> bool:
    """Whether this is a flow of normflows whose latents are of several scales."""
    core = sys.modules.get("normflows.core")
    return core is not None and isinstance(module, core.MultiscaleFlow)
