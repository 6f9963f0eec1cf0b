r"""Neural lower bounds: a network learns to tell what belongs together from what does not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.errors import ArgumentValueError
from infoprobe.estimators.arguments import Arguments
from infoprobe.estimators.ceilings import near_ceiling
from infoprobe.estimators.critic.bounds import Bound, Roles, roles_of
from infoprobe.estimators.critic.diagnosis import below_gaussians, out_of_reach
from infoprobe.estimators.critic.networks import (
    Pair,
    SampleCritic,
    pair_cap,
    pair_critic,
    perceptron,
)
from infoprobe.estimators.critic.preparation import Split, sizes, split, standardised
from infoprobe.estimators.errors import stderr_without_groups
from infoprobe.estimators.estimator import Estimator
from infoprobe.estimators.pairs import paired
from infoprobe.estimators.training import batches_of, drawing_weights, train
from infoprobe.findings import Finding

# Shares of samples are rounded to whole samples, of which nobody has this many.
_SMALLEST_SHARE = 1e-12
# How many groups of held-out samples are left out in turn for a standard error.
_GROUPS = 10
_CHECK = 50  # training steps from one look at the validation samples to the next


@dataclass(frozen=True)
class Critic(Estimator):
    r"""Lower bounds of mutual information and relative entropy by a trained critic (Deep InfoMax).

    A network :math:`f`, the critic, is trained to score samples of the joint distribution
    :math:`J = P_{XY}` above samples of the product :math:`M = P_X \otimes P_Y`; at its best it is
    the log-density ratio :math:`\ln dJ/dM`. With :math:`\operatorname{sp}` the softplus, the
    bounds are

    ============= ===========================================================================
    ``"infonce"`` :math:`E_J[f(x_i, y_i) - \ln \frac1m \sum_{j=1}^m e^{f(x_i, y_j)}]
                  \le \ln m`
    ``"dv"``      :math:`E_J[f] - \ln E_M[e^f]` (Donsker & Varadhan; MINE)
    ``"nwj"``     :math:`E_J[T] - E_M[e^{T - 1}]` with :math:`T = 1 + f`
    ``"jsd"``     the value of ``"nwj"`` for the critic that maximises the Jensen-Shannon
                  objective :math:`-E_J[\operatorname{sp}(-f)] - E_M[\operatorname{sp}(f)]`
    ``"smile"``   :math:`E_J[f] - \ln E_M[\operatorname{clip}(e^f, e^{-\tau}, e^\tau)]` for
                  the same critic; *not* a bound where it clips
    ============= ===========================================================================

    The samples are split at random: most train the critic; the validation samples choose when to
    stop, and the weights to keep; the value is taken on the held-out samples alone, each of their
    :math:`m` pairs as a sample of :math:`J` and each of the :math:`m (m - 1)` others as one of
    :math:`M`. Training starts from the critic that is 0 everywhere, whose bound is 0; so
    independent variables give 0 up to noise, however much a critic may overfit.

    With ``"dv"`` the critic is trained by ``"nwj"``, which has the same optimum: the logarithm of
    the mean of a batch would bias its gradients, and reward a critic for scoring rare samples
    without bound. For the same reason scores are kept smoothly below the logarithm of the number
    of held-out samples of :math:`M`, since a larger ratio of densities could not be checked on
    them; a single one of them takes at most 1 nat off ``"nwj"``.

    Features are carried to :math:`\operatorname{arsinh}((x - m) / s)`, with the median m and the
    distance s of the quartiles of the training samples, and standardised, so that long tails are
    shortened; what is then beyond 5 standard deviations is clipped. Integers count as numbers:
    pass class labels one-hot, ``torch.nn.functional.one_hot(labels)``.

    All results are in nats, 0-dim float64 tensors on the device of the first argument, where
    training takes place as well, and never clamped: a useless critic may give a negative value.
    The same seed gives the same value on a CPU; torch's global generators are not used.

    The result is differentiable in the arguments, with the critic held fixed: the gradient
    reaches the held-out samples, on which the critic does not depend, and is 0 elsewhere.

    Arguments:
        bound: One of the above.
        critic: What scores pairs. ``"separable"``: the product :math:`f(x, y) = g(x) \cdot h(y)`
            of two networks. ``"concatenated"``: one network of :math:`(x, y)`. All pairs of a
            batch are scored either way, by one product of matrices or by ``batch ** 2`` passes
            of a network: choose a smaller ``batch`` and ``hidden``, such as 64, for the second.
        hidden: Units in each of the two hidden layers of a network.
        embedding: The length of :math:`g(x)` and :math:`h(y)`.
        steps: The most training steps, with Adam.
        batch: The number of samples in a training step.
        learning_rate: The learning rate of Adam.
        patience: The steps without a better value on the validation samples, looked at every 50
            steps, after which training ends. The best weights count.
        validation: The share of the samples that choose the weights, 2,000 at most.
        held_out: The share of the samples that give the value, in a time that grows with
            :math:`m^2`; the rest are for training.
        clip: The :math:`\tau` of ``"smile"``.
        seed: The seed of the split, the initial weights and the batches.
        progress: Whether to show a progress bar. Needs the extra ``infoprobe[progress]``.

    Bias and limits:
        A value says how much *this* critic found after *this* training: it is below the truth by
        what the critic has missed, and changes with every setting. Few samples leave the bound
        loose. It is a lower bound up to the noise of the held-out samples: ``"nwj"``, ``"jsd"``
        and ``"infonce"`` are in expectation, while the logarithm of a sample mean biases
        ``"dv"`` upwards, and ``"smile"`` may exceed the truth by any amount.

        ``"infonce"`` cannot exceed :math:`\ln m`, see :meth:`ceiling`: a value near it says only
        that there is more. The variance of ``"dv"``, ``"nwj"`` and ``"jsd"`` grows exponentially
        with the truth, and no lower bound that holds with confidence whatever the distribution
        can exceed about :math:`\ln n` (McAllester & Stratos, 2020). Above some 5 nats, take
        values for no more than a sign that there is much.

    Standard error:
        That of the held-out samples: the delete-a-group jackknife leaves some of them out in
        turn, from the critic as it is. Other training samples would give another critic, and a
        bound that is more or less tight.

    References:
        | R. D. Hjelm et al. (2019). Learning deep representations by mutual information
          estimation and maximization. arXiv:1808.06670.
        | M. I. Belghazi et al. (2018). Mutual information neural estimation. arXiv:1801.04062.
        | A. van den Oord, Y. Li & O. Vinyals (2018). Representation learning with contrastive
          predictive coding. arXiv:1807.03748.
        | X. Nguyen, M. J. Wainwright & M. I. Jordan (2010). Estimating divergence functionals and
          the likelihood ratio by convex risk minimization. arXiv:0809.0853.
        | B. Poole et al. (2019). On variational bounds of mutual information. arXiv:1905.06922.
        | J. Song & S. Ermon (2020). Understanding the limitations of variational mutual
          information estimators. arXiv:1910.06222.
        | D. McAllester & K. Stratos (2020). Formal limitations on the measurement of mutual
          information. arXiv:1811.04251.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, noise = torch.randn(2, 1000, 3, generator=generator)
        >>> critic = ip.Critic(steps=100)
        >>> value = critic.mutual_information(x, x + noise)
        >>> bool(0.5 < value < critic.ceiling(1000))
        True
    """

    bound: Literal["infonce", "dv", "nwj", "jsd", "smile"] = "infonce"
    _: KW_ONLY
    critic: Literal["separable", "concatenated"] = "separable"
    hidden: int = 256
    embedding: int = 32
    steps: int = 3000
    batch: int = 256
    learning_rate: float = 5e-4
    patience: int = 500
    validation: float = 0.1
    held_out: float = 0.2
    clip: float = 5.0
    seed: int = 0
    progress: bool = False

    kind: ClassVar[Literal["differential"]] = "differential"

    def __post_init__(self) -> None:
        checks.require_one_of(self.bound, ["infonce", "dv", "nwj", "jsd", "smile"], "bound")
        checks.require_one_of(self.critic, ["separable", "concatenated"], "critic")
        for name in ("hidden", "embedding", "steps", "patience"):
            checks.require_integer_field(self, name, 1)
        checks.require_integer_field(self, "batch", 2)
        checks.require_integer_field(self, "seed", 0, 2**63 - 1)
        checks.require_bool_field(self, "progress")
        for name in ("learning_rate", "clip", "validation", "held_out"):
            checks.require_real_field(self, name, 0)
            if getattr(self, name) == 0:
                raise ArgumentValueError(name, "expected a number above 0, got 0.")
        for name in ("validation", "held_out"):
            checks.require_real(getattr(self, name), _SMALLEST_SHARE, name)
        if self.validation + self.held_out >= 1:
            raise ArgumentValueError(
                "validation, held_out",
                "expected shares with a sum below 1, to leave some samples "
                f"for training, got {self.validation} + {self.held_out}. Lower one of them.",
            )

    def mutual_information(self, x: ArrayLike, y: ArrayLike) -> Tensor:
        r"""Lower bound of :math:`I(X; Y) = KL(P_{XY} \| P_X \otimes P_Y)`.

        Arguments:
            x: Samples (n, …), flattened to (n, d).
            y: Samples (n, …) of the other variable; row i belongs to row i of ``x``.

        Raises:
            TypeError: An argument does not hold real numbers.
            ValueError: An argument is not finite, overflows its type when scaled or has too few
                samples to be split; or they are not equally many.
            FloatingPointError: Training diverged.
        """
        return self._value(self._trained_on_pairs(x, y))

    def _trained_on_pairs(self, x: ArrayLike, y: ArrayLike) -> _Trained:
        x, y = checks.samples(x, "x"), checks.samples(y, "y")
        checks.require_same_length(x=x, y=y)
        generator = self._generator()
        y = y.to(x.device)
        parts = training, _, _ = self._split([x, y], "x, y", generator)
        x = standardised(x, x[training], "x")
        y = standardised(y, y[training], "y")
        with drawing_weights(self.seed):
            critic = pair_critic(
                x.shape[1],
                y.shape[1],
                separable=self.critic == "separable",
                hidden=self.hidden,
                embedding=self.embedding,
                cap=pair_cap(len(parts[-1])),
            )
        batches = ((i, i) for i in batches_of(len(training), self.batch, generator))
        return self._trained(critic, [(x[i], y[i]) for i in parts], batches)

    def kl_divergence(self, p: ArrayLike, q: ArrayLike) -> Tensor:
        r"""Lower bound of :math:`KL(P \| Q)`, with ``bound="dv"`` or ``"nwj"``.

        The critic scores single samples: samples of :math:`P` in place of the joint distribution,
        and samples of :math:`Q` in place of the product. With :math:`m` held-out samples of
        :math:`Q`, divergences above :math:`\ln m` are out of reach.

        Arguments:
            p: Samples (n, …) of the first distribution, flattened to (n, d).
            q: Samples (k, …) of the second; their number may differ.

        Raises:
            TypeError: An argument does not hold real numbers.
            ValueError: The bound is another one; an argument is not finite, overflows its type
                when scaled or has too few samples to be split; or the features are not equally
                many.
            FloatingPointError: Training diverged.
        """
        self._require_bound_of_divergences()
        return self._value(self._trained_on_two(p, q))

    def _trained_on_two(self, p: ArrayLike, q: ArrayLike) -> _Trained:
        p, q = checks.samples(p, "p"), checks.samples(q, "q")
        checks.require_same_width(p=p, q=q)
        generator = self._generator()
        split_p, split_q = self._split([p], "p", generator), self._split([q], "q", generator)
        q = q.to(p.device)
        pooled = torch.cat([p[split_p[0]], q[split_q[0]]])
        p, q = standardised(p, pooled, "p, q"), standardised(q, pooled, "p, q")
        with drawing_weights(self.seed):
            single = perceptron(p.shape[1], self.hidden, self.hidden, 1)
        critic = SampleCritic(single, cap=math.log(len(split_q[-1])))
        batches_p = batches_of(len(split_p[0]), self.batch, generator)
        batches_q = batches_of(len(split_q[0]), self.batch, generator)
        batches = zip(batches_p, batches_q, strict=True)
        parts = [(p[i], q[j]) for i, j in zip(split_p, split_q, strict=True)]
        return self._trained(critic, parts, batches)

    def _with_error(
        self, arguments: Arguments, tensors: Sequence[Any]
    ) -> tuple[Tensor, Tensor | None]:
        if arguments.independent:
            self._require_bound_of_divergences()
            trained = self._trained_on_two(*tensors)
        else:
            trained = self._trained_on_pairs(*tensors)
        value = self._value(trained)
        return value, stderr_without_groups(trained.value, value, trained.held_out, _GROUPS)

    def ceiling(self, n: int) -> float:
        r"""What the mutual information of :math:`n` samples cannot exceed, whatever the truth.

        With :math:`m` held-out samples among them, :math:`\ln m` for ``"infonce"``; for ``"nwj"``
        and ``"jsd"``, by the limit of the scores, :math:`1 + \ln m (m - 1)`; otherwise infinite.

        Raises:
            TypeError: ``n`` is no integer.
            ValueError: ``n`` samples are too few to be split.
        """
        checks.require_integer(n, 0, None, "n")
        held_out = sizes(n, self.validation, self.held_out, "n")[-1]
        if self.bound == "infonce":
            return math.log(held_out)
        return 1 + pair_cap(held_out) if self.bound in ("nwj", "jsd") else math.inf

    def _findings(
        self, arguments: Arguments, tensors: Sequence[Any], value: Tensor | None
    ) -> Iterator[Finding]:
        if value is None:
            return
        if arguments.independent:
            p, q = (checks.samples(x, name) for x, name in zip(tensors, "pq", strict=True))
            yield from paired(p, q)
            held_out = sizes(len(q), self.validation, self.held_out, "q")[-1]
            yield from out_of_reach(float(value), held_out)
            return
        n = len(tensors[0])
        yield from near_ceiling(float(value), self.ceiling(n), n)
        x, y = (checks.samples(x, name) for x, name in zip(tensors, "xy", strict=True))
        yield from below_gaussians(x, y, float(value))

    def _require_bound_of_divergences(self) -> None:
        if self.bound not in ("dv", "nwj"):
            raise ArgumentValueError(
                "bound",
                "expected 'dv' or 'nwj' for a relative entropy of any two distributions, "
                f"got {self.bound!r}. Use Critic('dv'), or mutual_information.",
            )

    def _generator(self) -> torch.Generator:
        return torch.Generator("cpu").manual_seed(self.seed)

    @property
    def _roles(self) -> Roles:
        return roles_of(self.bound, self.clip)

    def _split(self, factors: Sequence[Tensor], name: str, generator: torch.Generator) -> Split:
        return split(factors, self.validation, self.held_out, name, generator)

    def _trained(self, critic: nn.Module, parts: list[Pair], batches: Iterator[Pair]) -> _Trained:
        """The critic, once the first two parts of the samples have trained it."""
        training, validation, held_out = parts
        device = training[0].device
        without_autocast = torch.autocast(device.type, enabled=False)
        with without_autocast, torch.inference_mode(False), torch.enable_grad():
            self._train(critic.to(device), training, validation, batches)
        return _Trained(critic, self._roles.value, held_out)

    def _value(self, trained: _Trained) -> Tensor:
        value = trained.value(*trained.held_out)
        self._require_finite(value, "of the held-out samples")
        return value

    def _train(
        self, critic: nn.Module, training: Pair, validation: Pair, batches: Iterator[Pair]
    ) -> None:
        """Trains the critic, and leaves it with the weights that were best in validation."""
        objective, criterion, _ = self._roles
        a, b = (samples.detach() for samples in training)

        def loss() -> Tensor:
            i, j = next(batches)
            value: Tensor = critic(objective, a[i], b[j])
            return -value

        def score(step: int) -> float:
            value = critic(criterion, *validation)
            return self._require_finite(value, f"in validation at step {step:,}")

        train(
            critic,
            torch.optim.Adam(critic.parameters(), lr=self.learning_rate),
            loss,
            score,
            steps=self.steps,
            check_every=_CHECK,
            patience=self.patience,
            learning_rate=lambda step, done: self.learning_rate,
            name=f"Critic({self.bound!r})",
            progress=self.progress,
        )
        critic.requires_grad_(False)

    def _require_finite(self, value: Tensor, where: str) -> float:
        current = value.item()
        if not math.isfinite(current):
            raise FloatingPointError(
                f"the bound {self.bound!r} became {current} {where}: training diverged. Pass a "
                f"lower learning_rate than {self.learning_rate}."
            )
        return current


class _Trained(NamedTuple):
    """A trained critic and the samples that it has not seen."""

    critic: nn.Module
    bound: Bound
    held_out: Pair

    def value(self, a: Tensor, b: Tensor) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            value: Tensor = self.critic(self.bound, a, b)
        return value
