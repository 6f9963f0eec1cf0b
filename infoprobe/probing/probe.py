"""Taps and measures make one measuring session."""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.distributions import Distribution, Transform

from infoprobe import checks
from infoprobe.directions import OPPOSITE, Direction
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.libraries.distributions import is_made_of_transforms
from infoprobe.probing.measures import Divergence, Entropy, EntropyChange, Measure
from infoprobe.probing.measures.input_entropy import InputEntropy
from infoprobe.probing.one_width import on_one_width
from infoprobe.probing.processes.group import Group
from infoprobe.probing.processes.synchronising import Together, synchronised
from infoprobe.probing.record import Record
from infoprobe.probing.recorder import Recorder
from infoprobe.probing.roles import require_layers
from infoprobe.probing.selection import require_mask
from infoprobe.reporting.report import Report
from infoprobe.reporting.table import WIDTH_OF
from infoprobe.taps.inputs import Inputs
from infoprobe.taps.layout import LayerSpec, Layout, listed
from infoprobe.taps.sink import belongs_to
from infoprobe.taps.tap import Tap
from infoprobe.version import __version__

_LARGEST_SEED = (1 << 32) - 1


def probe(
    model: nn.Module | Transform | Distribution,
    layers: LayerSpec | Iterable[LayerSpec] | None = None,
    measures: Measure | Iterable[Measure] | None = None,
    *,
    input: str | None = None,
    values_per_batch: int | None = None,
    memory: int = 1 << 30,
    seed: int = 0,
) -> Probe:
    r"""Attaches measures to the layers of a model, at once.

    Every tensor is reduced while it passes: to counts, which add up over any number of batches in
    any order, or, for estimators that need samples, to a random choice of its samples, the same
    at every layer. So memory is bounded however long the data are. The model is left as it was
    found: its outputs, gradients, parameters and flags are untouched, the probe draws from
    generators of its own, and the hooks are gone at the end of the ``with`` block or after
    :meth:`Probe.remove`. (A model in training mode moves its own BatchNorm statistics, probed or
    not.)

    At a plain module, the first floating-point tensor of its inputs and of its outputs is
    measured; at an invertible module, all tensors together are, without conditions and without
    the log-determinant.

    Arguments:
        model: Any module, a transform of ``torch.distributions``, or a distribution made of
            transforms. The inverse pass of a FrEIA graph, of a normalizing flow (zuko's, or any
            with maps that have a method ``inverse``, as in nflows and normflows) and of a
            transform is told apart by ``direction``. Both ways may happen in one pass, as in an
            autoencoder that inverts its encoder. A flow's ``log_prob(x)`` is a pass with the
            input ``x``, and its ``sample()`` is a pass with the noise that it draws as the input.
        layers: ``None`` for the leaf modules (attention counts as one), for FrEIA graphs their
            nodes and their own inputs and outputs, for flows their maps, and for transforms the
            parts, named by their positions (``"1.0"``); or one or several of: a glob pattern on
            names (``"conv*"``) that chooses among these or, where it matches none of them, among
            all modules; a module; a class of modules; a predicate ``f(name, module)``. Points
            marked by :func:`~infoprobe.tap` are always measured.
        measures: ``None`` for the entropy of every layer's output, on bins of one width, and the
            divergences of the layer's input and of the model's input from it, on shared bins; or
            one or several of :class:`~infoprobe.Entropy`, :class:`~infoprobe.Divergence`,
            :class:`~infoprobe.MutualInformation`, :class:`~infoprobe.EntropyChange`,
            :class:`~infoprobe.Rate`, :class:`~infoprobe.Spectrum`, or any other
            :class:`~infoprobe.Measure`.
        input: The name of the argument of the model's ``forward`` that is its input, such as
            ``"input_ids"`` or ``"inputs_embeds"``. ``None`` for the first floating-point tensor
            of the positional arguments, or else of the named ones: the one that a model of
            Hugging Face calls its ``main_input_name``, and no mask if there is anything else. Of
            a model that is given several tensors, rows that refer to the input say which it is.
        values_per_batch: About how many values of each larger tensor are counted, drawn at
            random; ``None`` counts all. Fewer are faster. Neighbours in memory are drawn
            together, up to 64 at a time. Histograms are then noisier, and depend on how the data
            are split into batches.
        memory: The number of bytes that all kept samples may take. If they would take more,
            fewer samples are kept than the measures ask for, and the rows of the report say so.
        seed: The seed of the choice of samples, of values and of projections. In distributed
            training, each process chooses for itself.

    Limits: Activation checkpointing calls layers again during the backward pass; such calls are
    not counted. A model that ``torch.compile`` compiled is compiled once more with the
    hooks in it, and runs compiled; with invertible maps, :class:`~infoprobe.EntropyChange` or
    :class:`~infoprobe.Rate`, and after ``model.compile()``, everything that was compiled runs
    uncompiled while the probe is attached. What is captured into a CUDA graph is not measured.
    On other devices than the CPU, nothing is read until it is asked for, and only then are
    there warnings of what could not be measured.
    Under ``torch.func.vmap`` tensors have no values to count, and the calls are left out. Each
    thread that runs the model has passes of its own. A copy of a probed model has hooks that do
    nothing, except that a shallow copy, such as a replica of ``torch.nn.DataParallel``, shares a
    flow's ``inverse`` with the original and, if anything was compiled in this process, its
    ``forward``. Nothing is measured before a flow's ``sample()`` has
    drawn its noise. Whether a tensor made in inference mode was changed between two layers cannot
    be known, so it is counted at both. Hooks run in the order in which they were registered: what
    a hook that is registered after the probe makes of a layer's tensors is first seen by the
    next layer, so register such hooks before. As torch calls a module with hooks through one
    function more, Python's recursion limit is met by models that are nested 190 modules deep
    rather than 240; ``sys.setrecursionlimit`` raises it. Passes within ``torch.export``,
    ``torch.jit.trace``, ``make_fx``, FakeTensorMode or the capture of a CUDA graph are neither
    measured nor counted, and the user's modes, such as ``FlopCounterMode``, do not see what the
    probe computes. ``torch.jit.script`` refuses a model that is probed. A process may fork
    while its threads run the model.

    Raises:
        TypeError: ``model``, ``layers`` or ``measures`` is something else.
        ValueError: A layer matches nothing, or a number is out of range.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
        >>> with ip.probe(model) as probe:
        ...     for _ in range(10):
        ...         _ = model(torch.randn(50, 3))
        >>> sorted(probe.report().scalars())[:2]
        ['0/forward/divergence_input', '0/forward/divergence_previous']
    """
    if not isinstance(model, nn.Module) and not is_made_of_transforms(model):
        raise ArgumentTypeError(
            "model",
            f"expected a torch.nn.Module, got {type(model).__name__}. Transforms of "
            "torch.distributions and distributions that are made of them will do as well.",
        )
    if values_per_batch is not None:
        values_per_batch = checks.require_integer(values_per_batch, 1, None, "values_per_batch")
    memory = checks.require_integer(memory, 0, None, "memory")
    seed = checks.require_integer(seed, 0, _LARGEST_SEED, "seed")
    if measures is None:
        measures = (Entropy(), Divergence(reference="previous"), Divergence(reference="input"))
    distinct: dict[object, Measure] = {}
    for measure in checks.items(measures):
        if not isinstance(measure, Measure):
            raise ArgumentTypeError(
                "measures",
                "expected ip.Entropy(...), ip.Divergence(...), ip.MutualInformation(...), "
                "ip.EntropyChange(), ip.Rate(), ip.Spectrum(), or another ip.Measure, got "
                f"{checks.shown(measure)} of type {type(measure).__name__}.",
            )
        for part in measure.parts:
            distinct.setdefault(_identity(part), part)
    if any(isinstance(measure, EntropyChange) for measure in distinct.values()):
        for measure in list(distinct.values()):
            if isinstance(measure, Entropy) and measure.select is None:
                beside = InputEntropy.beside(measure)
                distinct.setdefault(_identity(beside), beside)
    recorder = Recorder(list(distinct.values()), values_per_batch, memory, int(seed))
    settings = {
        "model": type(model).__name__,
        "measures": ", ".join(map(repr, distinct.values())),
        "input": str(input),
        "values_per_batch": str(values_per_batch),
        "memory": str(memory),
        "seed": str(seed),
    }
    return Probe(model, listed(layers), recorder, settings, Inputs(model, input))


def _identity(measure: Measure) -> object:
    """What tells a measure from others: its settings or, if they cannot be told, itself."""
    try:
        return repr(measure.identity)
    except ArgumentTypeError:  # raised again where it matters: when it is saved or merged
        return id(measure)


class Probe:
    """One measuring session, made by :func:`probe`.

    It is a context manager: the hooks stay on the model until the end of the ``with`` block,
    whatever is raised in it. The report stays readable afterwards. Another ``with`` block of the
    same probe attaches the hooks again and goes on. A probe that nobody refers to any more takes
    its hooks along.
    """

    def __init__(
        self,
        model: nn.Module | Transform | Distribution,
        layers: list[LayerSpec] | None,
        recorder: Recorder,
        settings: Mapping[str, str],
        given: Inputs,
    ) -> None:
        self._given = given
        self._model = weakref.ref(model)
        self._settings = settings
        self._chosen = layers
        self._recorder = recorder
        # What this and other processes had measured when they last told each other.
        self._together: Together | None = None
        self._attach(model)

    def __enter__(self) -> Probe:
        if not self._tap.attached:  # entered again
            model = self._model()
            if model is None:
                raise RuntimeError("probe: the model is no longer there. Probe another one.")
            self._attach(model)
        return self

    def __del__(self) -> None:
        # It can give no report any more, so its hooks go with it.
        if hasattr(self, "_tap"):
            self._tap.remove()

    def _attach(self, model: nn.Module | Transform | Distribution) -> None:
        layout = Layout.of(model).select(self._chosen)
        self._layers = [layer.name for layer in layout.chosen]
        require_layers((need.role for need in self._recorder.record.needs), self._layers)
        self._tap = Tap(layout, self._recorder, self._given)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        state = "attached" if self._tap.attached else "removed"
        return (
            f"Probe({len(self._layers)} layers, {len(self._recorder.measures)} measures, {state}, "
            f"{self._recorder.passes} passes)"
        )

    def remove(self) -> None:
        """Takes the hooks off the model. What was measured remains."""
        self._tap.remove()

    def reset(self) -> None:
        """Forgets what was measured; the hooks stay."""
        self._recorder.reset()

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """A ``with`` block in which the passes that begin are not measured."""
        before, self._recorder.paused = self._recorder.paused, True
        try:
            yield
        finally:
            self._recorder.paused = before

    def target(self, target: Any) -> None:
        """Gives the labels for the next pass, for ``MutualInformation(reference="target")``.

        Arguments:
            target: One label, or any other vector, for each sample: a one-dimensional tensor
                (n,) of integers, or any tensor (n, ...). A measure with ``select=`` takes one
                for each token, (n, t, ...), as well as one for each sequence.

        Raises:
            TypeError: It does not hold real numbers.
            ValueError: It is empty.
        """
        self._recorder.target(checks.as_tensor(target, "target"))

    def mask(self, mask: Any) -> None:
        """Says for the next pass which tokens count, as the attention mask of a batch does.

        Tokens that do not count are no samples of a measure with ``select=``. Of a measure
        without it, histograms over values leave them out, and a measure that keeps samples has no
        value, since its samples would be sequences with their padding.

        Arguments:
            mask: 1 or ``True`` for each token that counts and 0 or ``False`` for padding, (n, t)
                for n sequences of t tokens, padded on either side; or (n, h, w) for the positions
                of images. It is read on the CPU: a mask from a data loader makes nothing wait.

        Raises:
            TypeError: It holds neither booleans nor integers.
            ValueError: It has one axis only, or other values than 0 and 1.

        Example:
            >>> model = torch.nn.Linear(3, 4)
            >>> with ip.probe(model, measures=ip.Entropy(select="tokens")) as probe:
            ...     probe.mask([[1, 1, 1], [1, 0, 0]])
            ...     _ = model(torch.randn(2, 3, 3))
            >>> probe.report().rows[0]["n"]
            4
        """
        self._recorder.mask(require_mask(mask))

    def pair(self) -> None:
        """Says that the next pass has other views of the samples of the pass before.

        Measures of two views, :class:`~infoprobe.InfoNCE` and :class:`~infoprobe.DiME`, compare
        sample i of both passes. All other measures take the pass as any other.

        Raises:
            ValueError: There is no pass before, or it was announced as a second view itself.

        Example:
            >>> model = torch.nn.Linear(3, 4)
            >>> x = torch.randn(50, 3)
            >>> with ip.probe(model, measures=ip.InfoNCE()) as probe:
            ...     _ = model(x + 0.1 * torch.randn(50, 3))
            ...     probe.pair()
            ...     _ = model(x + 0.1 * torch.randn(50, 3))
            >>> probe.report().rows[0]["n"]
            50
        """
        self._recorder.pair()

    def track(self, every: int = 100, passes: int = 1) -> Probe:
        """Measures in windows of passes from now on, to follow a model over its training.

        Of each ``every`` passes, the first few are a window. It gives rows of its own in the
        report, whose ``step`` is the number of the window's first pass, counted from now. The
        measures are computed in a thread after the window, and if the next window ends before
        that, it waits. Passes outside of windows cost next to nothing, and memory grows by the
        rows alone. What was measured before is forgotten. The entropies on dyadic bins are
        brought to one width for all layers and steps, so that they can be compared; an explicit
        range keeps that width the same from report to report.

        Arguments:
            every: The number of passes from the start of one window to the start of the next.
            passes: The number of passes in a window, at most ``every``. More passes give
                estimators more to estimate from.

        Returns:
            The probe itself.

        Example:
            >>> model = torch.nn.Linear(3, 4)
            >>> with ip.probe(model, measures=ip.Entropy()).track(every=5) as probe:
            ...     for _ in range(10):
            ...         _ = model(torch.randn(50, 3))
            >>> [row["step"] for row in probe.report().rows]
            [0, 5]
        """
        every = checks.require_integer(every, 1, None, "every")
        passes = checks.require_integer(passes, 1, every, "passes")
        self.reset()
        self._recorder.track(int(every), int(passes))
        return self

    def report(self) -> Report:
        """Computes what was measured so far: a row for each layer, direction, call and measure.

        Warns:
            UserWarning: Some layers gave no output; the message has the likely causes.
        """
        record = self._record()
        rows = list(self._recorder.rows)
        if self._recorder.tracking:
            if record.passes:
                rows += record.rows(step=self._recorder.step)
        else:
            rows += record.rows()
        self._warn_of_silent_layers({row["layer"] for row in rows})
        on_shared_bins, widths = on_one_width(rows)
        versions = {"infoprobe": __version__, "torch": str(torch.__version__)}
        passes = {"passes": str(self._recorder.passes)}
        bins = {f"{WIDTH_OF}{name}": repr(width) for name, width in widths.items()}
        return Report(on_shared_bins, {**versions, **self._settings, **passes, **bins})

    def counts(self, layer: str, direction: Direction = "forward", call: int = 0) -> Counts:
        """Returns the counts of a layer's output, in the bins of the first measure that counts.

        They can stand for the tensors in every method of the estimator, so any two layers can be
        compared after the fact, on exactly shared bins.

        Example:
            >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
            >>> with ip.probe(model) as probe:
            ...     y = model(torch.randn(50, 3))
            >>> h = ip.Histogram()
            >>> h.js_divergence(probe.counts("0"), probe.counts("1")) == h.js_divergence(
            ...     probe.counts("0"), y
            ... )
            tensor(True)

        Raises:
            TypeError: ``layer`` is no text, or ``call`` no integer.
            ValueError: Nothing was counted there; the message lists where something was.
        """
        layer = checks.require_text(layer, "layer")
        checks.require_one_of(direction, OPPOSITE, "direction")
        call = checks.require_integer(call, 0, None, "call")
        counted = self._record().counts()
        if (layer, direction, call) not in counted:
            there = [f"{name!r} ({way}, call {i})" for name, way, i in counted]
            raise ArgumentValueError(
                "layer",
                f"nothing was counted at {layer!r} ({direction}, call {call}), but at: "
                f"{', '.join(there) or 'no layer yet'}.",
            )
        return counted[layer, direction, call]

    # With other processes, and over time.

    def state_dict(self) -> dict[str, Any]:
        """Returns what this process has measured, for :meth:`load_state_dict`.

        It consists of tensors, numbers and strings in lists and dictionaries, which
        :func:`torch.save` takes and ``torch.load(weights_only=True)`` gives back.
        """
        return self._recorder.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what :meth:`state_dict` returned; what was measured here is forgotten.

        Raises:
            ValueError: It is of a probe with other measures, or damaged. Then nothing changes.
        """
        self._recorder.load_state_dict(state)

    def merge(self, other: Probe) -> None:
        """Takes in what another probe has measured on other data.

        Counts add up exactly. Of the samples that both have kept, as many remain as one probe
        would have kept. With equal seeds, both tend to keep samples with the same numbers, so
        give probes that will be merged different seeds (but the same seed where samples are
        projected).

        Raises:
            TypeError: ``other`` is no probe.
            ValueError: It has other measures.
        """
        if not isinstance(other, Probe):
            raise ArgumentTypeError("other", f"expected a Probe, got {type(other).__name__}.")
        self._recorder.merge(other._recorder)

    def sync(self, group: torch.distributed.ProcessGroup | None = None) -> None:
        """Makes the report cover what all processes of ``torch.distributed`` have measured.

        All processes must call it. The report of each is then the report of a single process
        that had seen all the data, to the last count. Call it again after further passes; nothing
        is counted twice. :meth:`state_dict` still covers this process alone, and so do the rows
        of windows that :meth:`track` has finished.

        What a process sends and holds does not grow with their number: counts are added up on
        common bins, and of the samples those that remain are exchanged. Layers that only some
        processes have called are in the reports of all.

        Each process must have measured other samples. Where a layer is cut into parts (tensor
        parallelism), its parts are no further samples: see ``docs/distributed.md``.

        Arguments:
            group: The processes that share a measurement; ``None`` for all. With tensor
                parallelism, pass the group of data parallelism.

        Warns:
            UserWarning: Two processes began with the same samples.

        Raises:
            RuntimeError: ``torch.distributed`` is not initialised, or a process does not answer.
                What was measured here remains.
            ValueError: The processes have probes with other measures, or have projected samples
                with different seeds. All processes raise it.
        """
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            raise RuntimeError(
                "sync: expected an initialised torch.distributed, and there is none. Call "
                "torch.distributed.init_process_group(...) first; a single process needs no sync."
            )
        self._recorder.settle()
        self._together = synchronised(self._recorder.record, Group(group))
        if self._together.twins:
            warnings.warn(
                "sync: processes {} and {} began with the same samples, which are counted as "
                "different ones. If they hold parts of one model (tensor parallelism), values and "
                "errors are wrong: report without sync(), or pass a group of processes whose data "
                "differ. If not, give each process its own share of the data.".format(
                    *self._together.twins
                ),
                stacklevel=2,
            )

    def _record(self) -> Record:
        """What was measured here and, as far as it is known, elsewhere."""
        self._recorder.settle()
        own = self._recorder.record
        if self._together is None or self._together.own is not own:  # else it began anew
            return own
        return self._together.now()

    def _warn_of_silent_layers(self, fired: set[str]) -> None:
        # A layer may have made transforms, and then those are measured.
        silent = [
            layer
            for layer in self._layers
            if layer not in fired and not any(belongs_to(place, layer) for place in fired)
        ]
        if not silent or not self._recorder.measures:
            return
        if not fired:
            message = (
                "the probe has seen no pass through the model. Call the model itself, not "
                "model.forward(...), while the probe is attached and not paused."
            )
        else:
            message = (
                f"some probed layers gave no output: {', '.join(silent)}. Likely "
                "causes: the forward pass skips them, calls their .forward(...) or uses their "
                "weights directly."
            )
        warnings.warn(message, stacklevel=3)
