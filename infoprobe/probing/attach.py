"""Taps and measures make one measuring session."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.distributions import Distribution, Transform

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError
from infoprobe.probing.measures import Divergence, Entropy, EntropyChange, Measure
from infoprobe.probing.measures.input_entropy import InputEntropy
from infoprobe.probing.probe import Probe
from infoprobe.probing.recorder import Recorder
from infoprobe.taps.inputs import Inputs
from infoprobe.taps.layout import LayerSpec, listed
from infoprobe.taps.unseen import require_model

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
    :meth:`~infoprobe.Probe.remove`. (A model in training mode moves its own BatchNorm statistics,
    probed or not.)

    At a plain module, the first floating-point tensor of its inputs and of its outputs is
    measured; at an invertible module, all tensors together are, without conditions and without
    the log-determinant. Of a model with several inputs, all that refers to "the input" means one
    of them: the first, unless ``input`` names another.

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

    Limits:
        * **Compiled models.** A model that ``torch.compile`` compiled is compiled once more with
          the hooks in it, and runs compiled. With invertible maps,
          :class:`~infoprobe.EntropyChange`, :class:`~infoprobe.Rate` or
          :class:`~infoprobe.AttentionEntropy`, and after ``model.compile()``, it runs uncompiled
          in the passes that are measured; in a function that is compiled with ``fullgraph=True``
          it is not measured then, which the report says.
        * **Traces and modes.** Passes within ``torch.export``, ``torch.jit.trace``, ``make_fx``,
          FakeTensorMode or the capture of a CUDA graph are neither measured nor counted, and
          ``torch.jit.script`` refuses a model that is probed. The user's modes, such as
          ``FlopCounterMode``, do not see what the probe computes. Under ``torch.func.vmap``
          tensors have no values to count, and the calls are left out.
        * **Devices.** On other devices than the CPU, nothing is read until it is asked for, and
          only then are there warnings of what could not be measured.
        * **Calls.** Activation checkpointing calls layers again during the backward pass; such
          calls are not counted. Nothing is measured before a flow's ``sample()`` has drawn its
          noise. Whether a tensor made in inference mode was changed between two layers cannot be
          known, so it is counted at both.
        * **Other hooks** run in the order in which they were registered. The next layer is the
          first to show what a hook that is registered after the probe makes of a layer's tensors,
          so register such hooks before.
        * **Copies.** A copy of a probed model has hooks that do nothing. Only a shallow copy, such
          as a replica of ``torch.nn.DataParallel``, shares a flow's ``inverse`` with the original
          and, if anything was compiled in this process, its ``forward``.
        * **Threads and processes.** Each thread that runs the model has passes of its own. A
          process may fork while its threads run the model, as far as torch itself allows it.
        * **Depth.** Torch calls a module with hooks through one function more, so that models meet
          Python's recursion limit when they are nested 190 modules deep rather than 240;
          ``sys.setrecursionlimit`` raises it.

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
    require_model(model)
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
