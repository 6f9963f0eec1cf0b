"""The blocks of code on the pages of the site that are not executed when it is built."""

import doctest
import re
import warnings
from pathlib import Path

import pytest
import torch

import infoprobe as ip

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def blocks():
    for path in sorted(DOCS.rglob("*.md")):
        for i, (_, code) in enumerate(BLOCK.findall(path.read_text("utf-8"))):
            yield f"{path.relative_to(DOCS).as_posix()} {i}", code


CODE = dict(blocks())
PROMPTS = [name for name, code in CODE.items() if ">>>" in code]
# Those of the design page have tests of their own, in test_design.py.
SNIPPETS = [name for name in CODE if name not in PROMPTS and not name.startswith("design.md")]


def setting_of_distributed():
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    return {"model": model, "loader": [(torch.randn(50, 3), None)]}


def setting_of_a_tracked_training():
    setting = setting_of_distributed()
    model = setting["model"]
    loader = [(x, None) for x in torch.randn(10, 50, 3)]
    return {"probe": ip.probe(model), "loader": loader, "train": lambda x, y: model(x)}


def setting_of_language_models():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=50,
        n_positions=32,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    ids = torch.randint(50, (8, 12))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    model = transformers.GPT2LMHeadModel(config).eval()
    return {"model": model, "loader": [batch], "augmented": lambda batch: batch}


def setting_of_information_plane():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(), torch.nn.Linear(4, 2))
    return {"model": model, "loader": [(x, x[:, 0] > 0) for x in torch.randn(8, 100, 3)]}


SETTINGS = {
    "distributed.md 0": setting_of_distributed,
    "distributed.md 1": setting_of_a_tracked_training,
    "information_plane/README.md 0": setting_of_information_plane,
    **{f"language_models/README.md {i}": setting_of_language_models for i in range(3)},
}


def test_every_block_is_tested():
    assert sorted(SNIPPETS) == sorted(SETTINGS)
    assert PROMPTS == ["trust.md 0"]


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets_run(name):
    torch.manual_seed(0)
    names = {"ip": ip, "torch": torch, **SETTINGS[name]()}
    try:
        with torch.no_grad():
            exec(CODE[name], names)
    finally:
        if "probe" in names:
            names["probe"].remove()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    report = names.get("report") or names["probe"].report()
    assert all(row["value"] is not None for row in report.rows)


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_answer_as_printed(name):
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    lines = CODE[name].splitlines(keepends=True)
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    text = "".join(line[indent:] for line in lines)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        test = parser.get_doctest(text, {"ip": ip, "torch": torch}, name, None, 0)
        assert runner.run(test).failed == 0
