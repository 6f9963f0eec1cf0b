"""One measuring session: hooks on a model, what they have measured, and its report."""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NoReturn, SupportsIndex

import torch
from torch import nn
from torch.distributions import Distribution, Transform

from infoprobe import checks
from infoprobe.arrays import ArrayLike
from infoprobe.directions import OPPOSITE, Direction
from infoprobe.errors import ArgumentTypeError, ArgumentValueError
from infoprobe.estimators.histogram.counts import Counts
from infoprobe.probing.circumstances import own_generators
from infoprobe.probing.drafting import draft_rows
from infoprobe.probing.masks import require_mask
from infoprobe.probing.one_width import on_one_width
from infoprobe.probing.processes.group import Group
from infoprobe.probing.processes.synchronising import Together, synchronise_window, synchronised
from infoprobe.probing.record import Record
from infoprobe.probing.recorder import Recorder
from infoprobe.probing.roles import require_layers
from infoprobe.probing.shards import doubt_about
from infoprobe.progress import showing
from infoprobe.reporting.report import Report
from infoprobe.reporting.table import WIDTH_OF
from infoprobe.taps.inputs import Inputs
from infoprobe.taps.layout import LayerSpec, Layout
from infoprobe.taps.sink import belongs_to
from infoprobe.taps.tap import Tap
from infoprobe.version import __version__


class Probe:
    """One measuring session, made by :func:`~infoprobe.probe`.

    It is a context manager: the hooks stay on the model until the end of the ``with`` block,
    whatever is raised in it. The report stays readable afterwards. Another ``with`` block of the
    same probe attaches the hooks again and goes on. A probe that nobody refers to any more takes
    its hooks along. It can be neither copied nor pickled, but :meth:`state_dict` can.
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

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            "A probe can be neither copied nor pickled, since its hooks are on one model. Save "
            "probe.state_dict(), from which another probe with the same measures goes on, or "
            "probe.report().save(path)."
        )

    def __del__(self) -> None:
        # It can give no report any more, so its hooks go with it.
        if hasattr(self, "_tap"):
            self._tap.remove()

    def _attach(self, model: nn.Module | Transform | Distribution) -> None:
        layout = Layout.of(model).select(self._chosen)
        self._layers = [layer.name for layer in layout.chosen]
        require_layers((need.role for need in self._recorder.record.needs), self._layers)
        self._recorder.generators = own_generators(model)
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
        self._tap.follow()

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """A ``with`` block in which the passes that begin are not measured."""
        before, self._recorder.paused = self._recorder.paused, True
        self._tap.follow()
        try:
            yield
        finally:
            self._recorder.paused = before
            self._tap.follow()

    def target(self, target: ArrayLike) -> None:
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

    def mask(self, mask: ArrayLike) -> None:
        """Says for the next pass which tokens count, as the attention mask of a batch does.

        Tokens that do not count are no samples of a measure with ``select=``. Of a measure
        without it, histograms over values leave them out, and a measure that keeps samples has no
        value, since its samples would be sequences with their padding.

        Where the model is given a mask itself, by an argument whose name ends with
        ``attention_mask`` or ``padding_mask``, and tokens count that it leaves out, the rows say
        in how many passes. A mask that leaves out further tokens is taken as meant.

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
        self._tap.follow()
        return self

    def report(self, *, progress: bool = False) -> Report:
        """Computes what was measured so far: a row for each layer, direction, call and measure.

        Arguments:
            progress: Whether to show progress bars, for estimators that take long. Needs the
                extra ``infoprobe[progress]``.

        Warns:
            UserWarning: Some layers gave no output; the message has the likely causes. Or a
                target, a mask or a pair was announced after the last pass.
        """
        waiting = self._recorder.waiting
        if waiting and self._recorder.passes:
            warnings.warn(
                f"{' and '.join(f'probe.{name}(...)' for name in waiting)} came after the last "
                "pass and is about the next one, which has not begun. If it was about the pass "
                "before, call it before that pass.",
                stacklevel=2,
            )
        record = self._record()
        rows = self._recorder.windows.reported
        with showing(progress):
            if not self._recorder.tracking:
                rows += draft_rows(record)
            elif record.passes:
                rows += draft_rows(record, self._recorder.step)
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
        is counted twice. :meth:`state_dict` still covers this process alone.

        Of the windows that :meth:`track` has finished, the last one is reported for all
        processes, too. So call it once after each window, after as many passes in each process.

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
            ValueError: The processes have probes with other measures, have projected samples
                with different seeds, or have finished different windows. All processes raise it.
        """
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            raise RuntimeError(
                "sync: expected an initialised torch.distributed, and there is none. Call "
                "torch.distributed.init_process_group(...) first; a single process needs no sync."
            )
        self._recorder.settle()
        members = Group(group)
        twins = synchronise_window(self._recorder.windows, members)
        self._together = synchronised(self._recorder.record, members)
        twins = twins or self._together.twins
        if twins:
            warnings.warn(f"sync: {doubt_about(*twins)}", stacklevel=2)

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
                "model.forward(...), while the probe is attached and not paused, and not in a "
                "function that is compiled with fullgraph=True."
            )
        else:
            message = (
                f"some probed layers gave no output: {', '.join(silent)}. Likely "
                "causes: the forward pass skips them, calls their .forward(...) or uses their "
                "weights directly."
            )
        warnings.warn(message, stacklevel=3)
