"""Measures what the language-model measures cost, relative to a plain forward pass.

python benchmarks/language_models.py --out docs/benchmarks/language_models.json
python benchmarks/language_models.py --full --out docs/benchmarks/language_models_full.json

The model is a GPT-2 from a configuration, with random weights: 6 layers of 256 units at 8 x 128
tokens, or with --full 24 layers of 1,024 units at 8 x 512 tokens. What is measured are ratios of
process times in one thread, and the bytes that a probe keeps after one pass and after more; --full
takes 10 minutes, and measures all of them together alone. Attention entropies need attention that
returns its probabilities, so their pass is compared with a plain one of that kind.
"""

from __future__ import annotations

import argparse
import io
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch
from timing import about, ratios, table, write
from transformers import GPT2Config, GPT2LMHeadModel

import infoprobe as ip


def model_of(full: bool, layers: int) -> tuple[GPT2LMHeadModel, torch.Tensor]:
    units, tokens = (1024, 512) if full else (256, 128)
    vocabulary = 50257 if full else 8192
    config = GPT2Config(
        n_layer=layers,
        n_embd=units,
        n_head=units // 64,
        n_positions=tokens,
        vocab_size=vocabulary,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    model.train(False)
    return model, torch.randint(0, vocabulary, (8, tokens))


def measures_of(model: GPT2LMHeadModel, full: bool) -> dict[str, list[ip.Measure]]:
    """The measures of each contender."""
    read_out = [model.transformer.ln_f, model.lm_head]
    measures: dict[str, list[ip.Measure]] = {
        "TokenEntropy()": [ip.TokenEntropy()],
        "TokenEntropy(alpha=2)": [ip.TokenEntropy(alpha=2)],
        "Curvature()": [ip.Curvature()],
        "PromptEntropy()": [ip.PromptEntropy()],
        "PredictionEntropy, PredictionDivergence": [
            ip.PredictionEntropy(read_out),
            ip.PredictionDivergence(read_out),
        ],
    }
    # TokenEntropy(alpha=2) takes the place of TokenEntropy().
    every = [measure for name, some in measures.items() if "alpha" not in name for measure in some]
    return {"all": every} if full else measures | {"all": every}


def contenders(
    model: GPT2LMHeadModel, ids: torch.Tensor, measures: dict[str, list[ip.Measure]]
) -> dict[str, Callable[[], object]]:
    """A pass, plain and with measures at each block."""

    def plain() -> None:
        with torch.no_grad():
            model(ids, use_cache=False)

    def probed(chosen: list[ip.Measure]) -> Callable[[], object]:
        def run() -> None:
            with ip.probe(model, [*model.transformer.h], chosen):
                plain()

        return run

    found: dict[str, Callable[[], object]] = {"plain": plain}
    return found | {name: probed(chosen) for name, chosen in measures.items()}


def attending(model: GPT2LMHeadModel, ids: torch.Tensor) -> dict[str, Callable[[], object]]:
    """A pass with attention that returns its probabilities, and one that is measured."""
    layers = "transformer.h.*.attn"

    def plain() -> None:
        with torch.no_grad():
            model(ids, use_cache=False)

    def probed() -> None:
        with ip.probe(model, layers, ip.AttentionEntropy()):
            plain()

    return {"plain, eager attention": plain, "AttentionEntropy()": probed}


def paired(model: GPT2LMHeadModel, ids: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Two passes with two views of the same prompts, plain and measured."""
    views = ids, ids.flip(1)

    def plain() -> None:
        with torch.no_grad():
            for view in views:
                model(view, use_cache=False)

    def probed(measure: ip.Measure) -> Callable[[], object]:
        def run() -> None:
            with ip.probe(model, [*model.transformer.h], measure) as probe, torch.no_grad():
                model(views[0], use_cache=False)
                probe.pair()
                model(views[1], use_cache=False)

        return run

    return {
        "plain, two passes": plain,
        "InfoNCE()": probed(ip.InfoNCE()),
        "DiME()": probed(ip.DiME()),
    }


def reporting(model: GPT2LMHeadModel, ids: torch.Tensor, passes: int) -> dict[str, float]:
    """The seconds of process time that a report takes of so many pairs of passes."""
    found = {}
    for measure in (ip.InfoNCE(), ip.DiME()):
        with ip.probe(model, [*model.transformer.h], measure) as probe, torch.no_grad():
            for i in range(passes):
                view = ids.roll(i, 0).roll(i, 1)
                model(view, use_cache=False)
                probe.pair()
                model(view.flip(1), use_cache=False)
        start = time.process_time()
        probe.report()
        found[repr(measure)] = round(time.process_time() - start, 2)
    return found


def kept(
    model: GPT2LMHeadModel, ids: torch.Tensor, measures: list[ip.Measure], passes: list[int]
) -> dict[str, int]:
    """How many bytes a probe keeps after each of these numbers of passes."""
    found = {}
    with ip.probe(model, [*model.transformer.h], measures) as probe, torch.no_grad():
        for number in range(1, passes[-1] + 1):
            model(ids, use_cache=False)
            if number in passes:
                buffer = io.BytesIO()
                torch.save(probe.state_dict(), buffer)
                found[str(number)] = buffer.tell()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--layers", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, ids = model_of(arguments.full, arguments.layers or (24 if arguments.full else 6))
    rounds = arguments.rounds or (3 if arguments.full else 15)
    measures = measures_of(model, arguments.full)
    found = ratios(contenders(model, ids, measures), rounds)
    size = f"{model.config.n_layer} layers, d = {model.config.n_embd}"
    case = f"{size}, {ids.shape[0]} x {ids.shape[1]}"
    print(table("process time of a forward pass, as a ratio", {case: found}), flush=True)
    passes = [1, 2] if arguments.full else [1, 10, 100]
    bytes_kept = {name: kept(model, ids, some, passes) for name, some in measures.items()}
    print(bytes_kept, flush=True)
    eager, pairs, reports = {}, {}, {}
    if not arguments.full:
        pairs = ratios(paired(model, ids), rounds)
        print(table("the same with two views", {case: pairs}))
        reports = reporting(model, ids, 64)
        print(reports)
        model.set_attn_implementation("eager")
        eager = ratios(attending(model, ids), rounds)
        print(table("the same with eager attention", {case: eager}))
    content = {
        **about(arguments.threads),
        "model": case,
        "rounds": rounds,
        "ratios": found,
        "ratios with eager attention": eager,
        "ratios with two views": pairs,
        f"seconds to report {64 * len(ids)} pairs at each layer": reports,
        "bytes kept after passes": bytes_kept,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    write(arguments.out, content)


if __name__ == "__main__":
    main()
