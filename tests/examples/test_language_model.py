import json

import pytest
import torch

SHORT = ["--blocks", "2", "--units", "16", "--length", "12", "--steps", "1", "--prompts", "8"]
MEASURES = {
    *("token_entropy", "curvature", "prompt_entropy"),
    *("prediction_entropy", "prediction_divergence", "infonce"),
}


@pytest.fixture
def example(load_example, monkeypatch):
    module = load_example("language_model")
    text = "Returns what was asked for, in nats, and says how far to trust it.\n" * 8
    monkeypatch.setattr(module, "documentation", lambda: [text] * 20)
    return module


def test_what_it_writes(example, tmp_path, capsys):
    example.main([*SHORT, "--out", str(tmp_path)])
    assert "loss in nats a letter: 4.8" in capsys.readouterr().out
    assert (tmp_path / "profile.png").stat().st_size > 10_000
    content = json.loads((tmp_path / "profile.json").read_text())
    assert list(content["profiles"]) == ["before training", "trained"]
    for rows in content["profiles"].values():
        assert {row["measure"] for row in rows} == MEASURES
        assert {row["layer"] for row in rows} == {"transformer.h.0", "transformer.h.1"}
        assert all(row["value"] is not None and row["stderr"] is not None for row in rows)


def test_a_model_by_its_name_has_the_blocks_and_the_read_out_of_its_own(example, monkeypatch):
    class Options:
        blocks, units, length = 3, 16, 12

    model = example.small_model(Options).model
    transformers = example.transformers
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda name: model)
    tokenizer = type("Tokenizer", (), {"pad_token": "x"})()
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda name: tokenizer)
    found = example.model_by_name("some", 12)
    assert found.blocks == [*model.transformer.h]
    assert found.read_out == [model.transformer.ln_f, model.lm_head]
    hidden = model.transformer(torch.zeros(1, 4, dtype=torch.int64)).last_hidden_state
    assert hidden.shape == (1, 4, 16)


def test_bad_arguments_are_refused(example, assert_refused):
    assert_refused(example, ["--length", "2"], "--length: expected at least 3, got 2")


def test_the_documentation_is_text(load_example):
    texts = load_example("language_model").documentation()
    assert len(texts) > 1000
    assert all(text.isascii() for text in texts)
