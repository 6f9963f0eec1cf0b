"""Bad input of language models: each measure's row says what is wrong, and how to go on."""

import pytest
import torch

import infoprobe as ip

transformers = pytest.importorskip("transformers")
N, T, VOCABULARY = 12, 6, 40
TOKENS = ["entropy@tokens", "effective_rank@tokens", "total_correlation@tokens"]
PROMPTS = ["token_entropy", "curvature", "attention_entropy", "prediction_entropy"]
POOLED = ["prompt_entropy", "infonce", "dime"]
EVERY = [*TOKENS, *PROMPTS, *POOLED]


def model_of():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=1, n_embd=8, n_head=2, n_positions=T, vocab_size=VOCABULARY, bos_token_id=0,
        eos_token_id=0, initializer_range=0.4, attn_implementation="eager",
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


def rows_of(model, mask=None, t=T, ids=None, measures=()):
    """The rows of the block's measures, by their names, of two passes that are a pair."""
    block = model.transformer.h[0]
    chosen = [
        ip.Entropy(select="tokens"),
        ip.Spectrum(select="tokens"),
        ip.TotalCorrelation(select="tokens", samples=None),
        ip.TokenEntropy(),
        ip.Curvature(),
        ip.AttentionEntropy(),
        ip.PredictionEntropy([model.transformer.ln_f, model.lm_head]),
        ip.PromptEntropy(),
        ip.InfoNCE(),
        ip.DiME(),
        *measures,
    ]
    ids = torch.randint(VOCABULARY, (N, t)) if ids is None else ids
    with ip.probe(model, [block, block.attn], chosen) as probe, torch.no_grad():
        for view in range(2):
            if view:
                probe.pair()
                ids = ids.flip(1)
            if mask is not None:
                probe.mask(mask)
            model(ids, use_cache=False)
    found = {}
    for row in probe.report().rows:
        if row["layer"].endswith("attn") == (row["measure"] == "attention_entropy"):
            found[row["measure"]] = row
    return found


def says(row, text):
    return row["value"] is None and any(text in finding for finding in row["findings"])


@pytest.mark.filterwarnings("ignore:layer")
@pytest.mark.parametrize(
    ("mask", "text", "without"),
    [
        (torch.ones(N, T + 1), "has shape (12, 6), got (12, 7). Give probe.mask(...)", EVERY),
        (torch.ones(N - 1, T), "has shape (12, 6), got (11, 6). Give probe.mask(...)", EVERY),
        (torch.zeros(N, T), "a mask of shape (12, 6) that leaves out all of them", EVERY),
        (torch.ones(N, T).tril(-1), "got 1 without any, which have no mean", POOLED),
        (torch.eye(T, T).repeat(2, 1), "have fewer than", ["token_entropy", "curvature"]),
    ],
)
def test_masks(mask, text, without):
    rows = rows_of(model_of(), mask.long())
    assert {name for name in EVERY if says(rows[name], text)} == set(without)
    assert {name for name in EVERY if rows[name]["value"] is None} == set(without)


@pytest.mark.filterwarnings("ignore:layer")
def test_selections_without_samples():
    measures = [
        ip.Entropy(select=T),
        ip.Entropy(ip.KNN(), select=lambda x: x[:0]),
        ip.Spectrum(select=-T - 1),
    ]
    rows = rows_of(model_of(), measures=measures)
    bad = [row for name, row in rows.items() if "@" in name and "tokens" not in name]
    assert len(bad) == 6
    for row in bad:
        assert says(row, "expected samples") or says(row, "got one that finds none: lambda")


def test_sequences_of_one_token():
    rows = rows_of(model_of(), t=1)
    assert says(rows["token_entropy"], "have fewer than 2 tokens")
    assert says(rows["curvature"], "have fewer than 3 tokens")
    assert rows["attention_entropy"]["value"] == 0
    assert rows["prediction_entropy"]["value"] > 0


def test_tokens_that_are_all_zero():
    model = model_of()
    with torch.no_grad():
        model.transformer.wte.weight.zero_()
        model.transformer.wpe.weight.zero_()
    rows = rows_of(model)
    assert says(rows["effective_rank@tokens"], "It has no value: expected samples that vary")
    assert says(rows["total_correlation@tokens"], "the output: expected features that vary")
    for name in ("token_entropy", "curvature"):
        assert says(rows[name], "their tokens are all zero, or do not differ")
    assert says(rows["prompt_entropy"], "It has no value: expected samples that are not zero")
    assert says(rows["infonce"], "It has no value: expected views with a direction")
    assert says(rows["dime"], "It has no value: expected mostly distinct samples")


@pytest.mark.filterwarnings("ignore:layer")
def test_values_that_are_not_finite():
    model = model_of()
    with torch.no_grad():
        model.transformer.wte.weight[0] = float("nan")
    ids = torch.randint(1, VOCABULARY, (N, T))
    ids[0, 2] = 0
    rows = rows_of(model, ids=ids)
    for name in PROMPTS[:3]:
        assert rows[name]["value"] is not None
        assert "hold NaN or infinite values" in rows[name]["findings"][0]
    # The weights of the read-out are those of the embedding.
    assert says(rows["prediction_entropy"], "hold NaN or infinite values")
    for name in (*TOKENS, *POOLED):
        assert says(rows[name], "expected finite values")


def test_what_comes_after_the_last_pass_is_told():
    model, ids = model_of(), torch.randint(VOCABULARY, (N, T))
    with ip.probe(model, "transformer.h.0", ip.TokenEntropy()) as probe, torch.no_grad():
        model(ids)
        probe.report()
        probe.mask(torch.ones(N, T).bool())
        with pytest.warns(UserWarning, match=r"probe\.mask\(\.\.\.\) came after the last pass"):
            probe.report()
        probe.target(ids[:, 0])
        probe.pair()
        with pytest.warns(UserWarning, match=r"target\(\.\.\.\) and .* and probe\.pair"):
            probe.report()
        model(ids)
        probe.report()


class EverySecond(torch.nn.Module):
    def forward(self, x):
        return x[:, ::2]


def test_other_tokens_than_those_of_the_mask():
    model = torch.nn.Sequential(torch.nn.Tanh(), EverySecond())
    measures = [ip.TokenEntropy(), ip.PredictionEntropy(torch.nn.Linear(8, 9))]
    with ip.probe(model, "1", measures) as probe:
        probe.mask(torch.ones(N, T).tril(2).bool())
        model(torch.randn(N, T, 8))
    for row in probe.report().rows:
        assert says(row, "shape (12, 3, 8) does not have the tokens of the mask")


def test_tokens_that_rounding_alone_makes_differ():
    model = model_of()
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()
    rows = rows_of(model, ids=torch.full((N, T), 3))
    assert says(rows["curvature"], "do not differ")
    assert says(rows["effective_rank@tokens"], "equal up to rounding")
    assert rows["token_entropy"]["value"] == pytest.approx(0, abs=1e-9)
    assert rows["prompt_entropy"]["value"] == pytest.approx(0, abs=1e-9)
