r"""A flow of the user's, of any library that is known, as the map of a transport."""

from __future__ import annotations

import contextlib
import copy
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.errors import ArgumentError, ArgumentTypeError, ArgumentValueError
from infoprobe.estimators.training import batches_of, require_converging, train
from infoprobe.estimators.transport.bijections import Affine, Chain
from infoprobe.estimators.transport.carried import standard_nll
from infoprobe.estimators.transport.transport import Transport
from infoprobe.libraries.lookup import has_inverse, run

_CHECK = 25  # training steps from one look at the stopping samples to the next
# Up to how many features, and with how many samples, log-determinants are compared with autograd.
_COMPARED_FEATURES, _COMPARED_SAMPLES = 128, 2
# How far the inverse may lead from the samples, in their deviations; and how many nats off a
# log-determinant may be.
_TOLERANCE = 1e-3


class Adapted(nn.Module):
    """A map of any library, which returns ``(z, log_det)`` and has an ``inverse``, in float64.

    Arguments:
        flow: The map.
        rev: Whether it runs backwards.
    """

    def __init__(self, flow: nn.Module, rev: bool) -> None:
        super().__init__()
        self.flow: nn.Module = flow
        self.rev: bool = rev

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Samples (n, d) to (n, d), and the log-determinants (n,), all float64."""
        return self._run(x, self.rev)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The way back, with the log-determinants of this direction."""
        return self._run(z, not self.rev)

    def _run(self, x: Tensor, rev: bool) -> tuple[Tensor, Tensor]:
        dtype = next((p.dtype for p in self.flow.parameters()), torch.float64)
        x = x.to(dtype)
        try:
            values, log_det = run(self.flow, (x,), (), rev=rev)
        except RuntimeError:
            if torch.is_grad_enabled():
                raise
            with torch.enable_grad():  # some log-determinants are themselves gradients
                values, log_det = run(self.flow, (x.clone().requires_grad_(),), (), rev=rev)
            values = tuple(value.detach() for value in values)
            log_det = None if log_det is None else log_det.detach()
        if len(values) != 1 or values[0].shape != x.shape or log_det is None:
            shapes = ", ".join(str(tuple(value.shape)) for value in values)
            raise ArgumentValueError(
                "flow",
                f"expected a map of samples {tuple(x.shape)} to as many numbers, with its "
                f"log-determinants, got {shapes}{' and none' if log_det is None else ''} from "
                f"{type(self.flow).__name__}. Pass a flow for {x.shape[1]} features.",
            )
        return values[0].double(), log_det.double()


@dataclass(frozen=True, repr=False)
class GivenFlow(Transport):
    r"""Carries data through a flow of yours, trained or new, and measures what is made of them.

    It is exact with any bijection, however well it fits, since

    .. math:: h(X) = h(f(X)) - E \ln |\det J_f(X)|;

    the better f fits, the easier is the work that is left to the residual estimator. The other
    measures and their errors are those of :class:`infoprobe.Flow`.

    Arguments:
        flow: A trained flow of FrEIA, nflows, normflows, zuko or any other library that is known
            (see :func:`infoprobe.libraries.register`), which carries samples (n, d) to (n, d) and
            is used as it is; or a function that takes the number of features d and returns a new
            flow, such as ``zuko.flows.NSF``, which is then trained by likelihood for each fold and
            each variable, on features that are scaled to deviation 1.
        rev: Whether the flow must run backwards to carry data to noise, as those of normflows do.
        steps: The most training steps of a new flow, with Adam; a third of them without a better
            likelihood of the stopping samples, seen every 25 steps, end it.
        batch: The number of samples in a training step.
        learning_rate: The learning rate of Adam at first; it falls to 0 along a cosine.
        residual: What measures the samples that the map has carried.
        folds: How many parts the samples come in; see :class:`infoprobe.Flow`.
        seed: The seed of the folds, the initial weights and the batches. Torch's global generators
            are left as they were.
        progress: Whether to show progress bars. Needs the extra ``infoprobe[progress]``.

    Bias and limits:
        Measure other samples than those that a trained flow was trained on: on its own training
        samples, the entropy comes out too low. A flow whose inverse does not lead back, or whose
        log-determinants differ from those of autograd (compared on two samples, up to d = 128), is
        refused. Two variables are carried by one trained flow, so it must have their d.

    Raises:
        TypeError: The flow is neither a module nor a function that returns one.
        ValueError: It does not carry samples of this many features, or is no bijection.

    Example:
        >>> import FrEIA.framework as Ff
        >>> import FrEIA.modules as Fm
        >>> flow = Ff.SequenceINN(2)
        >>> _ = flow.append(Fm.ActNorm)
        >>> x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
        >>> _ = flow(x)  # ActNorm takes its scale from the first batch
        >>> bool(abs(ip.entropy(x, ip.GivenFlow(flow)) - 2.838) < 0.1)  # ln(2 pi e)
        True
    """

    flow: nn.Module | Callable[[int], nn.Module]
    _: KW_ONLY
    rev: bool = False
    steps: int = 1000
    batch: int = 256
    learning_rate: float = 1e-3
    progress: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.flow):
            raise ArgumentTypeError(
                "flow",
                "expected a flow, or a function of the number of features that returns one, such "
                f"as zuko.flows.NSF, got {checks.shown(self.flow)}.",
            )
        for name in ("steps", "batch"):
            checks.require_integer_field(self, name, 1)
        checks.require_real_field(self, "learning_rate", 1e-12)

    def __repr__(self) -> str:
        """The class of the flow, or the name of the function, and the settings."""
        settings = ", ".join(
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name != "flow"
        )
        return f"GivenFlow({self._name()}, {settings})"

    def configuration(self) -> Any:
        """What tells it from others: the settings, and of a trained flow its parameters."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        if isinstance(self.flow, nn.Module):
            settings["flow"] = [self._name(), self.flow.state_dict()]
        return settings

    def _name(self) -> str:
        if isinstance(self.flow, nn.Module):
            return type(self.flow).__name__
        return str(getattr(self.flow, "__qualname__", type(self.flow).__name__))

    def fit_map(self, x: Tensor, stop: Tensor, seed: int) -> nn.Module:
        """The flow, which is trained on samples ``x`` (n, d) if it is new."""
        fitted: nn.Module
        if isinstance(self.flow, nn.Module):
            fitted = Adapted(copy.deepcopy(self.flow).eval().double(), self.rev)
        else:
            with _drawing_from(seed, x.device):
                fitted = self._train(self.flow, x.double(), stop.double(), seed)
        fitted.requires_grad_(False)
        _require_bijection(fitted, stop.double())
        return fitted

    def _train(
        self, make: Callable[[int], nn.Module], x: Tensor, stop: Tensor, seed: int
    ) -> Chain:
        flow = make(x.shape[1])
        if not isinstance(flow, nn.Module):
            raise ArgumentTypeError(
                "flow",
                "expected a function of the number of features that returns a flow, got one that "
                f"returned a {type(flow).__name__}.",
            )
        scale = Affine(x.mean(0), torch.diag(1 / x.std(0)))
        adapted = Adapted(flow.to(x.device), self.rev)
        y, y_stop = scale(x)[0], scale(stop)[0]
        batches = batches_of(len(y), self.batch, torch.Generator("cpu").manual_seed(seed))

        def nll(samples: Tensor) -> Tensor:
            z, log_det = adapted(samples)
            mean: Tensor = (standard_nll(z) - log_det).mean()
            return mean

        def loss() -> Tensor:
            adapted.train()
            return nll(y[next(batches)])

        def score(step: int) -> float:
            adapted.eval()
            likelihood = -float(nll(y_stop))
            return require_converging(likelihood, step, self.learning_rate)

        train(
            flow,
            torch.optim.Adam(flow.parameters()),
            loss,
            score,
            steps=self.steps,
            check_every=_CHECK,
            patience=self.steps / 3,
            learning_rate=lambda step, done: (
                self.learning_rate * (1 + math.cos(math.pi * done)) / 2
            ),
            name=self._name(),
            progress=self.progress,
        )
        return Chain(scale, adapted.eval().double())


def _require_bijection(fitted: nn.Module, x: Tensor) -> None:
    """Raises a ValueError if a map is not inverted, or reports wrong log-determinants."""
    steps = list(fitted) if isinstance(fitted, Chain) else [fitted]
    few = x[:16]
    try:
        z, log_det = fitted(few)
    except ArgumentError:
        raise
    except Exception as error:  # whatever a flow of another size raises
        raise ArgumentValueError(
            "flow",
            f"expected a flow for samples of {x.shape[1]:,} features, got one that raises "
            f"{type(error).__name__}: {error}",
        ) from error
    if has_inverse(steps[-1].flow):
        back: Tensor = fitted.inverse(z)[0]  # type: ignore[operator]
        off = float(((back - few).abs() / x.std(0)).max())
        if not off < _TOLERANCE:
            raise ArgumentValueError(
                "flow",
                f"expected a map whose inverse leads back, got one that ends {off:.2g} standard "
                "deviations away. ip.check_invertible(flow, x) tells more.",
            )
    if x.shape[1] > _COMPARED_FEATURES:
        return
    for sample, reported in zip(few[:_COMPARED_SAMPLES], log_det, strict=False):
        exact = float(torch.linalg.slogdet(_jacobian(fitted, sample)).logabsdet)
        if not abs(exact - float(reported)) < _TOLERANCE * max(1.0, abs(exact)):
            raise ArgumentValueError(
                "flow",
                f"expected correct log-determinants, got {float(reported):.5g} where autograd "
                f"finds {exact:.5g}. ip.check_invertible(flow, x) tells more.",
            )


def _jacobian(fitted: nn.Module, sample: Tensor) -> Tensor:
    """The derivatives (d, d) of a map at a sample (d,), by as many passes backwards."""
    with torch.enable_grad():
        x = sample.unsqueeze(0).clone().requires_grad_()
        outputs = fitted(x)[0].squeeze(0)
        rows = [torch.autograd.grad(z, x, retain_graph=True)[0] for z in outputs]
    return torch.cat(rows)


@contextlib.contextmanager
def _drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """A ``with`` block in which all global generators start from a seed, and go on afterwards.

    Flows draw their weights from torch's, and some draw permutations from NumPy's or Python's.
    """
    of_numpy, of_python = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)
