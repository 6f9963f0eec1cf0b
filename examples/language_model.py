"""What each block of a language model does to its tokens, before, during and after training.

A small GPT-2 from a configuration learns to continue, letter by letter, the documentation of
Python's standard library, which is on every machine that runs Python. At the start, early in
training and at its end, a probe takes a profile of all blocks on prompts that the model was not
trained on:

* how evenly the tokens of a prompt spread over directions (matrix-based entropy, as a share of
  ln n), and the prompts of the data set likewise (of means over tokens);
* how sharply the path from token to token turns (curvature);
* what would be predicted if the block were the last: the entropy of that prediction, and its
  divergence from the final one;
* how much two views of a prompt share, in which the case of some letters is changed (InfoNCE).

None of these is the information that a block keeps; docs/language_models says what each can tell.

    python examples/language_model.py
    python examples/language_model.py --model gpt2

With --model, a model of the transformers library is loaded by its name, which needs a network the
first time, and profiled as it is, on the same text. The script writes profile.png and profile.json
into --out.
"""

from __future__ import annotations

import ast
import json
import math
import platform
import random
import shlex
import sys
import sysconfig
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from command_line import parser_for, require_between
from drawing import tidy
from matplotlib import pyplot
from torch import Tensor, nn
from tqdm import tqdm

import infoprobe as ip
from infoprobe.rows import Row

LETTERS = 128  # ASCII
BATCH_SIZE = 16
LEARNING_RATE = 2e-3
# The share of the documentation that the model is not trained on.
HELD_OUT = 0.1
# How often a letter changes its case in a view.
CHANGED = 0.15
STYLES = [("0.65", "o", ":"), ("0.4", "s", "--"), ("black", "D", "-")]
PANELS = {
    "token_entropy": "entropy of a prompt's tokens,\nas a share of ln n",
    "curvature": "curvature of the token path\nin radians",
    "prompt_entropy": "entropy of the prompts\nin nats",
    "prediction_entropy": "entropy of the prediction\nin nats",
    "prediction_divergence": "KL of the final prediction\nfrom the block's, in nats",
    "infonce": "shared by two views\n(InfoNCE bound), in nats",
}


class Subject(NamedTuple):
    """A model, and what has to be known to profile it.

    Attributes:
        model: The model.
        blocks: Its blocks, in order.
        read_out: What turns the output of a block into logits.
        encode: Turns texts into token ids and a mask, (n, t) each.
    """

    model: nn.Module
    blocks: list[nn.Module]
    read_out: list[nn.Module]
    encode: Callable[[Sequence[str]], tuple[Tensor, Tensor]]


def documentation() -> list[str]:
    """The docstrings of the modules, classes and functions of Python's standard library."""
    texts = []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some modules have odd escapes
            tree = ast.parse(path.read_text(encoding="utf-8", errors="ignore"))
        for node in ast.walk(tree):
            text = ast.get_docstring(node) if isinstance(node, documented) else None
            if text and text.isascii():
                texts.append(text)
    return texts


def small_model(options: Any) -> Subject:
    """A GPT-2 that reads and predicts letters, with random weights."""
    config = transformers.GPT2Config(
        n_layer=options.blocks,
        n_embd=options.units,
        n_head=4,
        n_positions=options.length,
        vocab_size=LETTERS,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config)

    def encode(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids = torch.zeros(len(texts), options.length, dtype=torch.int64)
        for row, text in zip(ids, texts, strict=True):
            letters = torch.tensor(list(text.encode("ascii"))[: options.length])
            row[: len(letters)] = letters
        return ids, ids != 0

    blocks = [*model.transformer.h]
    return Subject(model, blocks, [model.transformer.ln_f, model.lm_head], encode)


def model_by_name(name: str, length: int) -> Subject:
    """A causal language model of the transformers library."""
    model = transformers.AutoModelForCausalLM.from_pretrained(name)
    tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def encode(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        found = tokenizer(
            list(texts), return_tensors="pt", padding=True, truncation=True, max_length=length
        )
        return found["input_ids"], found["attention_mask"].bool()

    number = model.config.get_text_config().num_hidden_layers
    stacks = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == number]
    if not stacks:
        raise SystemExit(f"{name}: expected {number} blocks in one list, and found none.")
    owner = next(m for m in model.modules() if any(child is stacks[0] for child in m.children()))
    # The final norm comes after the blocks.
    children = list(owner.named_children())
    after = children[[child for _, child in children].index(stacks[0]) + 1 :]
    norms = [m for part, m in after if "norm" in part or part.startswith("ln")]
    head: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return Subject(model, [*stacks[0]], [*norms[:1], head], encode)


def cut(texts: Sequence[str], letters: int) -> list[str]:
    """Texts of a number of letters each, from texts that are put one after the other."""
    joined = "\n\n".join(texts)
    return [joined[i : i + letters] for i in range(0, len(joined) - letters + 1, letters)]


def another_view(text: str, chance: random.Random) -> str:
    """The text with some letters in the other case."""
    return "".join(c.swapcase() if chance.random() < CHANGED else c for c in text)


def profile(subject: Subject, prompts: Sequence[str], seed: int) -> list[Row]:
    """All measures at all blocks."""
    chance = random.Random(seed)
    measures = [
        ip.TokenEntropy(normalize="ln n"),
        ip.Curvature(),
        ip.PromptEntropy(),
        ip.PredictionEntropy(subject.read_out, positions=512),
        ip.PredictionDivergence(subject.read_out, positions=512),
    ]
    was_training = subject.model.training
    subject.model.train(False)
    rows: list[Row] = []
    batches = [prompts[i : i + BATCH_SIZE] for i in range(0, len(prompts), BATCH_SIZE)]
    with torch.no_grad():
        with ip.probe(subject.model, subject.blocks, measures, seed=seed) as probe:
            for batch in batches:
                run(subject, probe, batch)
        rows += probe.report().rows
        with ip.probe(
            subject.model, subject.blocks, ip.InfoNCE(temperature=0.1), seed=seed
        ) as probe:
            for batch in batches:
                run(subject, probe, batch)
                probe.pair()
                run(subject, probe, [another_view(text, chance) for text in batch])
        rows += probe.report().rows
    subject.model.train(was_training)
    return rows


def run(subject: Subject, probe: ip.Probe, texts: Sequence[str]) -> None:
    """A pass of the model that the probe sees."""
    ids, mask = subject.encode(texts)
    probe.mask(mask)
    subject.model(input_ids=ids, attention_mask=mask.long(), use_cache=False)


def train(
    subject: Subject,
    texts: Sequence[str],
    steps: int,
    stages: Sequence[int],
    at_stage: Callable[[int], None],
    seed: int,
) -> list[float]:
    """Trains the model on texts, stops at stages, and returns the loss of each step."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(subject.model.parameters(), LEARNING_RATE, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    ids, _ = subject.encode(texts)
    losses: list[float] = []
    for step in tqdm(range(steps + 1)):
        if step in stages:
            at_stage(step)
        if step == steps:
            break
        batch = ids[torch.randint(len(ids), (BATCH_SIZE,), generator=generator)]
        loss = subject.model(input_ids=batch, labels=batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(subject.model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def draw(profiles: dict[str, list[Row]], path: Path) -> None:
    """Draws a panel for each measure, with a line for each stage and bars of two errors."""
    figure, axes = pyplot.subplots(2, 3, figsize=(7.2, 4.6), layout="constrained")
    for ax, (measure, title) in zip(axes.flat, PANELS.items(), strict=True):
        styles = STYLES[-len(profiles) :]
        for (stage, rows), (grey, marker, line) in zip(profiles.items(), styles, strict=True):
            of_measure = [row for row in rows if row["measure"] == measure]
            shown = [row for row in of_measure if row["value"] is not None]
            ax.errorbar(
                [of_measure.index(row) + 1 for row in shown],
                [row["value"] for row in shown],
                [1.96 * (row["stderr"] or 0) for row in shown],
                color=grey,
                marker=marker,
                linestyle=line,
                markersize=4,
                linewidth=1.2,
                capsize=2,
                label=stage,
            )
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=8)
        ax.locator_params(axis="x", integer=True)
        tidy(ax)
    for ax in axes[1]:
        ax.set_xlabel("block", fontsize=9)
    if len(profiles) > 1:
        figure.legend(
            *axes[0, 0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=len(profiles),
            frameon=False,
            fontsize=9,
        )
    figure.savefig(path, dpi=200)
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--model", help="the name of a model to profile instead of training one")
    parser.add_argument("--steps", type=int, default=300, help="number of training steps")
    parser.add_argument("--prompts", type=int, default=256, help="number of prompts of a profile")
    parser.add_argument("--length", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--blocks", type=int, default=6, help="blocks of the small model")
    parser.add_argument("--units", type=int, default=128, help="units of the small model")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and the data")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder to write into")
    options = parser.parse_args(arguments)
    require_between(
        parser, options, steps=(1, None), prompts=(8, None), length=(3, None), blocks=(1, None)
    )
    torch.manual_seed(options.seed)
    texts = documentation()
    random.Random(options.seed).shuffle(texts)
    held_out = round(HELD_OUT * len(texts))
    prompts = cut(texts[:held_out], options.length)[: options.prompts]
    profiles: dict[str, list[Row]] = {}
    losses: list[float] = []
    if options.model:
        subject = model_by_name(options.model, options.length)
        profiles[options.model] = profile(subject, prompts, options.seed)
    else:
        subject = small_model(options)
        early = max(1, options.steps // 10)
        names = {0: "before training", early: f"after {early} steps", options.steps: "trained"}

        def at_stage(step: int) -> None:
            profiles[names[step]] = profile(subject, prompts, options.seed)

        training = cut(texts[held_out:], options.length)
        losses = train(subject, training, options.steps, list(names), at_stage, options.seed)
        print(
            f"loss in nats a letter: {losses[0]:.2f} before training (ln {LETTERS} = "
            f"{math.log(LETTERS):.2f}), {sum(losses[-20:]) / len(losses[-20:]):.2f} after it"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    command = ["python", "examples/language_model.py", *(arguments or sys.argv[1:])]
    content = {
        "command": shlex.join(command),
        "seed": options.seed,
        "versions": {
            "infoprobe": ip.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "losses": [round(loss, 4) for loss in losses],
        "profiles": profiles,
    }
    (options.out / "profile.json").write_text(json.dumps(content, indent=1) + "\n")
    draw(profiles, options.out / "profile.png")
    findings = {
        finding for rows in profiles.values() for row in rows for finding in row["findings"]
    }
    for finding in sorted(findings):
        print(f"* {finding}")


if __name__ == "__main__":
    main()
