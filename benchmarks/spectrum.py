"""Measures the cost of the covariances that ip.Spectrum() keeps, and of a language model's pass.

The peer is delve, whose saturation comes from the same covariance.

pip install -e ".[benchmarks]" transformers
python benchmarks/spectrum.py --out docs/benchmarks/spectrum.json
"""

from __future__ import annotations

import argparse
import io
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from delve.metrics import compute_saturation
from delve.torch_utils import TorchCovarianceMatrix
from timing import about, ratios, table, write
from torch import nn
from transformers import GPT2Config, GPT2Model

import infoprobe as ip
from infoprobe.estimators.moments import SecondMoments
from infoprobe.probing.measures import Saturation

TOKENS = 4096
SPECTRUM = ip.Spectrum(select="tokens")
MEASURES = {
    "ip.Spectrum(select='tokens')": [SPECTRUM],
    "and ip.Entropy(select='tokens')": [SPECTRUM, ip.Entropy(select="tokens")],
}
Contenders = dict[str, Callable[[], object]]

# Layers, width, sequences and tokens in each.
MODELS = {
    "4 layers, d=256, 8x128": (4, 256, 8, 128),
    "6 layers, d=512, 8x256": (6, 512, 8, 256),
    "4 layers, d=1024, 8x512": (4, 1024, 8, 512),
    "24 layers, d=1024, 8x512": (24, 1024, 8, 512),
}


def updates(d: int) -> Contenders:
    """One batch of tokens added to a covariance; the first is one product in single precision."""
    x = torch.randn(TOKENS, d, generator=torch.Generator().manual_seed(0))
    delve = TorchCovarianceMatrix(device="cpu")
    kept = [SecondMoments.of(x)]

    def ours() -> None:
        kept[0] = kept[0] + SecondMoments.of(x)

    return {
        "x.T @ x in float32": lambda: x.T @ x,
        "ip.Spectrum()": ours,
        "delve": lambda: delve.update(x, False),
    }


def difference(d: int) -> float:
    """How far the saturations of both are apart, of the same data."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(TOKENS, d, generator=generator) @ torch.randn(d, d, generator=generator)
    delve, total = TorchCovarianceMatrix(device="cpu"), None
    for part in torch.split(x, 500):
        delve.update(part, False)
        moments = SecondMoments.of(part)
        total = moments if total is None else total + moments
    assert total is not None
    return abs(float(Saturation().of(total)) - float(compute_saturation(delve.fix())))


def language_model(layers: int, d: int) -> nn.Module:
    config = GPT2Config(n_layer=layers, n_embd=d, n_head=d // 64, vocab_size=1000, n_positions=512)
    model: nn.Module = GPT2Model(config)
    return model.train(False)


def passes(layers: int, d: int, n: int, t: int, probes: dict[str, ip.Probe]) -> Contenders:
    """A pass, plain and with measures at each block."""
    model = language_model(layers, d)
    ids = torch.randint(0, 1000, (n, t), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(n, t, dtype=torch.long)

    def watched(name: str, measures: object) -> Callable[[], object]:
        blocks = [*model.get_submodule("h").children()]
        probe = ip.probe(model, layers=blocks, measures=measures)  # type: ignore[arg-type]
        probe.remove()
        probes[name] = probe

        def run() -> None:
            with probe:
                probe.mask(mask)
                model(input_ids=ids, attention_mask=mask)

        return run

    def plain() -> None:
        model(input_ids=ids, attention_mask=mask)

    contenders: Contenders = {"plain": plain}
    for name, measures in MEASURES.items():
        contenders[name] = watched(name, measures)
    return contenders


def kept(probe: ip.Probe) -> float:
    """What a probe keeps, in megabytes."""
    buffer = io.BytesIO()
    torch.save(probe.state_dict(), buffer)
    return round(buffer.tell() / 1e6, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    arguments = parser.parse_args()
    logging.disable()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    widths = (64, 256, 512, 1024)
    covariances = {f"d={d}": ratios(updates(d), arguments.rounds, twice=True) for d in widths}
    print(table("A batch of 4,096 samples is added", covariances))
    apart = {f"d={d}": difference(d) for d in (64, 512)}
    print(apart)
    models: dict[str, dict[str, float]] = {}
    megabytes: dict[str, dict[str, float]] = {}
    for name in arguments.models:
        probes: dict[str, ip.Probe] = {}
        contenders = passes(*MODELS[name], probes)
        models[name] = ratios(contenders, arguments.rounds)
        megabytes[name] = {measures: kept(probe) for measures, probe in probes.items()}
        print(table("A pass", {name: models[name]}), megabytes[name], flush=True)
    content = {"about": about(1), "covariances": covariances, "saturation apart": apart}
    write(arguments.out, content | {"passes": models, "megabytes": megabytes})


if __name__ == "__main__":
    main()
