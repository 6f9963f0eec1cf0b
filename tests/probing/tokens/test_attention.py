"""The entropy of attention: closed forms, whose queries and keys count, and layers without any."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.findings import code_of
from tests.probing.helpers import save_and_load
from tests.textbook_sequences import textbook_attention_entropies, textbook_clustered_error

RAW, SHARE = ip.AttentionEntropy(), ip.AttentionEntropy(normalize="ln n")
N, HEADS, T = 5, 3, 8


class Returns(nn.Module):
    """An attention layer that returns what it is given besides its output."""

    def forward(self, x, *rest):
        return (x, *rest)


def rows_of(p, mask=None, measures=(RAW, SHARE)):
    """The rows of a layer with these probabilities."""
    model = Returns()
    x = torch.randn(p.shape[0], p.shape[-2], 4)
    with ip.probe(model, measures=measures) as probe:
        if mask is not None:
            probe.mask(mask)
        model(x, p)
    return probe.report().rows


def uniform(visible):
    """The same attention to all keys that are visible, (..., queries, keys)."""
    return visible / visible.sum(-1, keepdim=True)


def causal(n=N, t=T, seed=0, window=None):
    """Random probabilities of causal attention."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(n, HEADS, t, t, generator=generator, dtype=torch.float64)
    apart = torch.arange(t).unsqueeze(1) - torch.arange(t)
    seen = (apart >= 0) & (apart < (window or t))
    return scores.masked_fill(~seen, -math.inf).softmax(-1)


def codes(row):
    return [code_of(finding) for finding in row["findings"]]


def test_uniform_causal_attention_has_the_mean_of_ln_t():
    raw, share = rows_of(uniform(torch.ones(T, T).tril()).expand(N, HEADS, T, T))
    assert raw["value"] == pytest.approx(math.log(math.factorial(T)) / T, abs=1e-7)
    assert share["value"] == pytest.approx(1, abs=1e-7)
    assert (raw["unit"], share["unit"]) == ("nats", "share")
    assert raw["stderr"] == pytest.approx(0, abs=1e-9)
    assert raw["findings"] == share["findings"] == []


@pytest.mark.parametrize("key", [0, -1])
def test_attention_to_one_token_has_none(key):
    p = torch.zeros(N, HEADS, T, T)
    p[..., key] = 1
    p[0, 0, 0], p[0, 0, 1] = uniform(torch.ones(T)), uniform(torch.ones(T))
    raw, share = rows_of(p[1:])
    assert raw["value"] == 0
    # Where all ignore all keys but one, nobody knows which could be seen.
    assert share["value"] is None
    assert "can see one key only" in share["findings"][0]
    # Where one query of the batch sees all keys, the others are known to ignore them.
    raw, share = rows_of(p)
    queries = N * HEADS * T
    assert raw["value"] == pytest.approx(2 * math.log(T) / queries, abs=1e-7)


def test_values_and_errors_are_those_of_queries_one_by_one():
    p = causal()
    lengths = [8, 3, 5, 8, 2]
    mask = torch.arange(T) < torch.tensor(lengths).unsqueeze(1)
    p = uniform(p * mask[:, None, None, :])
    p[1, :, 5] = math.nan  # what padding holds does not matter
    raw, share = rows_of(p, mask)
    for row, keys in ((raw, None), (share, range(1, T + 1))):
        groups = [
            textbook_attention_entropies(one.numpy(), m.tolist(), keys)
            for one, m in zip(p, mask, strict=True)
        ]
        assert row["value"] == pytest.approx(np.concatenate(groups).mean(), abs=1e-9)
        noise = textbook_clustered_error(groups)
        assert noise < row["stderr"] < 1.42 * noise  # widened for 4 degrees of freedom
        assert row["n"] == N
        assert row["findings"] == []


def test_keys_beyond_a_window_cannot_be_seen():
    p = causal(window=3)
    (row,) = rows_of(p, measures=SHARE)
    keys = [min(i + 1, 3) for i in range(T)]
    found = [textbook_attention_entropies(one.numpy(), [True] * T, keys) for one in p]
    assert row["value"] == pytest.approx(np.mean(found), abs=1e-9)


def test_what_is_not_finite_tells_nothing_of_the_keys_that_others_see():
    p = causal()
    p[1] = math.nan
    (row,) = rows_of(p, measures=SHARE)
    (truth,) = rows_of(p[[0, 2, 3, 4]], measures=SHARE)
    assert row["value"] == pytest.approx(truth["value"], abs=1e-12)
    assert codes(row) == ["not-finite"]


def test_keys_on_the_left_that_are_padding_cannot_be_seen():
    mask = torch.arange(T) >= torch.tensor([0, 3, 5, 0, 2]).unsqueeze(1)
    seen = torch.ones(T, T).tril() * mask[:, None, None, :]
    seen[~mask[:, None, :].expand(N, 1, T)] = 1  # queries that are padding see what they like
    (row,) = rows_of(uniform(seen).expand(N, HEADS, T, T), mask, SHARE)
    assert row["value"] == pytest.approx(1, abs=1e-7)


def test_heads():
    p = causal()
    measures = [RAW, *(ip.AttentionEntropy(head) for head in range(HEADS + 1))]
    every, *heads, missing = rows_of(p, measures=measures)
    assert every["value"] == pytest.approx(np.mean([row["value"] for row in heads]), abs=1e-12)
    assert len({row["value"] for row in heads}) == HEADS
    assert [row["measure"] for row in heads][:2] == [
        "attention_entropy@head0",
        "attention_entropy@head1",
    ]
    assert missing["value"] is None
    assert "has 3 heads" in missing["findings"][0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    p = causal()
    (exact,), (rounded,) = (rows_of(x, measures=RAW) for x in (p, p.to(dtype)))
    assert rounded["value"] == pytest.approx(exact["value"], abs=2e-3)
    assert rounded["findings"] == []


def test_what_is_no_distribution_is_left_out():
    p = causal()
    dropped = nn.functional.dropout(p, 0.5)
    dropped[0] = p[0]
    dropped[1, 0, 2, 0] = math.nan
    (row,) = rows_of(dropped, measures=RAW)
    assert codes(row)[:2] == ["no-distribution", "not-finite"]
    assert row["value"] == pytest.approx(rows_of(p[:1])[0]["value"], abs=1e-12)
    assert "model.eval()" in row["findings"][0]
    (row,) = rows_of(dropped[:1], measures=RAW)
    assert row["findings"] == ["It has no standard error: there is one prompt only."]


def test_layers_without_probabilities_say_so_without_a_warning():
    x, p = torch.randn(N, T, 4), causal()
    model = Returns()
    for given in [(), (None,), (p[0],), (p.long(),), (torch.randn(N, HEADS, 3, T),)]:
        with ip.probe(model, measures=RAW) as probe:
            model(x, *given)
        (row,) = probe.report().rows
        assert row["value"] is None
        assert "returns no attention probabilities" in row["findings"][0]
        assert "attn_implementation='eager'" in row["findings"][0]


def test_keys_and_values_are_not_taken_for_probabilities():
    p, x = causal(), torch.randn(N, T, 4)
    cache = torch.randn(N, HEADS, T, 6)
    model = Returns()
    with ip.probe(model, measures=RAW) as probe:
        model(x, (cache, cache), p)
    assert probe.report().rows[0]["value"] == rows_of(p)[0]["value"]


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("averaged", [True, False])
def test_attention_of_torch(batch_first, averaged):
    model = nn.MultiheadAttention(6, 2, batch_first=batch_first)
    x = torch.randn(N, T, 6)
    given = x if batch_first else x.transpose(0, 1)
    with ip.probe(model, measures=RAW) as probe:
        _, p = model(given, given, given, average_attn_weights=averaged)
    p = p.detach().double().numpy()
    p = p[:, None] if averaged else p
    (row,) = probe.report().rows
    truth = [textbook_attention_entropies(one, [True] * T) for one in p]
    assert row["value"] == pytest.approx(np.mean(truth), abs=1e-6)
    assert row["n"] == N
    assert codes(row) == (["heads-averaged"] if averaged else [])


def test_attention_of_torch_over_one_sequence():
    model = nn.MultiheadAttention(6, 2)
    x = torch.randn(T, 6)
    with ip.probe(model, measures=[RAW, ip.AttentionEntropy(head=1)]) as probe:
        _, p = model(x, x, x, average_attn_weights=False)
        model(x, x, x)
        model(x, x, x, need_weights=False)
    every, head = probe.report().rows
    entropies = torch.special.entr(p).sum(-1).detach()
    averaged = torch.special.entr(p.mean(0)).sum(-1).detach()
    assert every["value"] == pytest.approx(
        (entropies.sum() + averaged.sum()).item() / (3 * T), abs=1e-6
    )
    assert head["value"] == pytest.approx(entropies[1].mean().item(), abs=1e-6)
    assert "1 call is left out" in every["findings"][-1]
    assert "2 calls are left out" in head["findings"][-1]


def test_merging_and_saving_are_exact_to_rounding():
    p = causal(n=12)
    model = Returns()

    def probe_of(parts):
        with ip.probe(model, measures=[RAW, SHARE]) as probe:
            for part in parts:
                model(torch.randn(len(part), T, 4), part)
        return probe

    whole, a, b = probe_of([p]), probe_of(p[:7].split(2)), probe_of(p[7:].split(3))
    loaded = ip.probe(model, measures=[RAW, SHARE])
    loaded.remove()
    loaded.load_state_dict(save_and_load(b.state_dict()))
    a.merge(loaded)
    for mine, row in zip(a.report().rows, whole.report().rows, strict=True):
        assert mine["value"] == pytest.approx(row["value"], abs=1e-12)
        assert mine["stderr"] == pytest.approx(row["stderr"], abs=1e-12)
        assert mine["n"] == row["n"] == 12


def test_wrong_arguments():
    with pytest.raises(ValueError, match="head"):
        ip.AttentionEntropy(head=-1)
    with pytest.raises(ValueError, match="normalize"):
        ip.AttentionEntropy(normalize="ln min(n, d)")


@pytest.mark.parametrize("side", ["left", "right"])
def test_attention_of_transformers(side):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        n_layer=2, n_embd=24, n_head=HEADS, n_positions=T, vocab_size=30, bos_token_id=0,
        eos_token_id=0, initializer_range=0.6, attn_implementation="eager",
    )  # fmt: skip
    model = transformers.GPT2Model(config).eval()
    ids = torch.randint(30, (N, T))
    lengths = torch.tensor([8, 3, 5, 8, 2]).unsqueeze(1)
    mask = torch.arange(T) < lengths if side == "right" else torch.arange(T) >= T - lengths
    with ip.probe(model, [b.attn for b in model.h], [RAW, SHARE]) as probe:
        probe.mask(mask)
        given = model(input_ids=ids, attention_mask=mask.long(), output_attentions=True)
    keys = mask.cumsum(1).tolist()
    rows = probe.report().rows
    for layer, p in enumerate(given.attentions):
        for row, of in ((rows[2 * layer], [None] * N), (rows[2 * layer + 1], keys)):
            truth = [
                textbook_attention_entropies(one.detach().double().numpy(), m.tolist(), k)
                for one, m, k in zip(p, mask, of, strict=True)
            ]
            assert row["value"] == pytest.approx(np.concatenate(truth).mean(), abs=1e-5)
            assert row["findings"] == []
    model.set_attn_implementation("sdpa")
    with ip.probe(model, [b.attn for b in model.h], RAW) as probe:
        model(input_ids=ids, attention_mask=mask.long())
    assert all("'eager'" in row["findings"][0] for row in probe.report().rows)
