"""Padding that counts, since the probe was not told of it, is told on the rows."""

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.findings import code_of
from tests.probing.helpers import save_and_load

V, D = 9, 6
H = ip.Histogram(16)


class Language(nn.Module):
    """A model whose arguments are named as those of many models are."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(V, D)
        self.layer = nn.Linear(D, D)

    def forward(self, input_ids, attention_mask=None, src_key_padding_mask=None):
        return self.layer(self.embed(input_ids))


READ_OUT = nn.Linear(D, V)
OF_TOKENS = [
    ip.TokenEntropy(),
    ip.Curvature(),
    ip.PromptEntropy(),
    ip.Spectrum(select="tokens"),
    ip.Entropy(H),
    ip.Entropy(H, select="tokens"),
    ip.Entropy(H, select="last"),
    ip.Divergence(H, reference="previous"),
    ip.Entropy(ip.Gaussian(), select="tokens", samples=64),
    ip.Entropy(ip.Gaussian(), select="tokens", samples=None),
    ip.PredictionEntropy(READ_OUT),
    ip.PredictionDivergence(READ_OUT),
]
FULL = torch.ones(3, 5, dtype=torch.int64)
PADDED = (torch.arange(5) < torch.tensor([[5], [3], [4]])).long()
LEFT = PADDED.flip(1)


def ids():
    return torch.randint(V, (3, 5))


def probed(masks, given=None, measures=OF_TOKENS, model=None, call=None):
    """A probe of passes with these masks of the model, and these of the probe."""
    model = Language() if model is None else model
    call = call or (lambda model, mask: model(ids(), attention_mask=mask))
    with ip.probe(model, "layer", measures) as probe, torch.no_grad():
        for i, mask in enumerate(masks):
            if given is not None and given[i] is not None:
                probe.mask(given[i])
            call(model, mask)
    return probe


def told(probe):
    """What each row says of padding."""
    return [
        next((each for each in row["findings"] if code_of(each) == "padding-counted"), "")
        for row in probe.report().rows
    ]


def test_every_measure_of_tokens_says_in_how_many_passes_padding_counted():
    findings = told(probed([PADDED, FULL, PADDED]))
    assert len(findings) == len(OF_TOKENS) + 3  # a spectrum has four rows
    for finding in findings:
        assert "in 2 of 3 passes, for which the probe was given no mask" in finding
        assert "probe.mask(attention_mask)" in finding


def test_nothing_is_told_where_padding_does_not_count():
    masks = [PADDED, LEFT, FULL, None]
    assert not any(told(probed(masks, masks)))
    assert not any(told(probed([FULL, None])))
    # Who leaves out more than padding means it.
    inner = PADDED.clone()
    inner[:, 0] = 0
    assert not any(told(probed([PADDED], [inner])))


def test_a_mask_that_comes_one_pass_late():
    masks = [PADDED, PADDED.flip(0), PADDED]
    late = [None, *masks[:-1]]
    for finding in told(probed(masks, late)):
        assert "in 1 of 3 passes, for which the probe was given no mask" in finding
        assert "in 2 of 3 passes by the mask that the probe was given" in finding


def test_a_mask_that_says_the_opposite():
    for finding in told(probed([PADDED], [1 - PADDED], [ip.TokenEntropy()])):
        assert "in 1 of 1 passes by the mask that the probe was given" in finding


def additive(mask):
    return torch.zeros(mask.shape).masked_fill(mask == 0, -torch.inf)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, mask: model(ids(), mask),
        lambda model, mask: model(ids(), attention_mask=mask.bool()),
        lambda model, mask: model(ids(), attention_mask=mask.float()),
        lambda model, mask: model(ids(), attention_mask=additive(mask)),
        lambda model, mask: model(ids(), attention_mask=additive(mask)[:, None, None]),
        lambda model, mask: model(ids(), attention_mask=torch.cat([mask[:, :2], mask], 1)),
        lambda model, mask: model(ids(), attention_mask=3 * mask),
        lambda model, mask: model(ids(), None, mask == 0),
        lambda model, mask: model(ids(), src_key_padding_mask=(mask == 0)),
        lambda model, mask: model(ids(), src_key_padding_mask=additive(mask)),
    ],
)
def test_masks_in_all_forms_and_by_name_or_position(call):
    def tell(given):
        return told(probed([PADDED], given, [ip.TokenEntropy()], call=call))

    ((unmasked,), (masked,), (opposite,)) = tell(None), tell([PADDED]), tell([1 - PADDED])
    assert "no mask" in unmasked
    assert not masked
    assert "by the mask" in opposite


class OfBatches(nn.Module):
    """A model that is given a batch as a dictionary, or whatever there is."""

    def __init__(self):
        super().__init__()
        self.inner = Language()
        self.layer = nn.Linear(D, D)

    def forward(self, *args, **kwargs):
        batch = args[0] if args else kwargs
        return self.layer(self.inner.embed(batch["input_ids"]))


@pytest.mark.parametrize("by_name", [True, False])
def test_masks_of_models_without_names_and_in_batches(by_name):
    def call(model, mask):
        batch = {"attention_mask": mask, "input_ids": ids()}
        return model(**batch) if by_name else model(batch)

    model = OfBatches()
    with ip.probe(model, "layer", ip.TokenEntropy()) as probe:
        call(model, PADDED)
    # The first tensor of a batch may be the mask itself, which has the same tokens.
    assert all(told(probe))


def test_a_model_of_torch_and_a_pass_that_enters_by_a_part():
    layer = nn.TransformerEncoderLayer(D, 2, batch_first=True)
    model = nn.Sequential(nn.Identity(), nn.TransformerEncoder(layer, 1))
    with ip.probe(model, "1", ip.TokenEntropy()) as probe:
        model[1](torch.randn(3, 5, D), src_key_padding_mask=(PADDED == 0))
    assert all(told(probe))


@pytest.mark.parametrize(
    ("mask", "select", "counts"),
    [
        (PADDED, "first", False),
        (PADDED, "last", True),
        (LEFT, "first", True),
        (LEFT, "last", False),
        (PADDED, 2, False),
        (PADDED, 3, True),
        (LEFT, -3, False),
        (LEFT, -4, True),
        (PADDED, 0, False),
        (PADDED, lambda x: x[:, 0], False),
    ],
)
def test_only_what_is_selected(mask, select, counts):
    measure = ip.Entropy(H, select=select)
    assert [bool(x) for x in told(probed([mask], None, measure))] == [counts]


def test_a_wrong_mask_may_leave_the_right_tokens():
    measures = [ip.Entropy(H, select=select) for select in ("first", "last", "tokens")]
    first, last, tokens = told(probed([PADDED], [FULL], measures))
    assert not first
    assert "by the mask" in last
    assert "by the mask" in tokens


def test_attention():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.MultiheadAttention(D, 2, batch_first=True)

        def forward(self, x, key_padding_mask):
            return self.layer(x, x, x, key_padding_mask=key_padding_mask)

    def call(model, mask):
        return model(torch.randn(3, 5, D), mask == 0)

    measure = ip.AttentionEntropy()
    (finding,) = told(probed([PADDED, FULL], None, measure, Model(), call))
    assert "in 1 of 2 passes" in finding
    assert not any(told(probed([PADDED], [PADDED], measure, Model(), call)))


def test_tensors_without_these_tokens():
    class Pooled(Language):
        def forward(self, input_ids, attention_mask):
            return self.layer(self.embed(input_ids).mean(1))

    measures = [ip.Entropy(H), ip.PromptEntropy()]
    assert not any(told(probed([PADDED], None, measures, Pooled())))


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(5, 5).tril(),  # from token to token
        torch.ones(3, 1, 5, 5).tril(),
        torch.zeros(3, 4),  # of other tokens
        torch.zeros(15),
        torch.zeros(()),
        torch.zeros(3, 5).to_sparse(),
        torch.zeros(3, 0),
    ],
)
def test_masks_about_something_else(mask):
    assert not any(told(probed([mask], None, [ip.TokenEntropy(), ip.Entropy(H)])))


def test_rows_are_told_again_after_saving_and_merging():
    one = probed([PADDED, FULL], None, ip.TokenEntropy())
    other = probed([PADDED], [FULL], ip.TokenEntropy())
    with ip.probe(Language(), "layer", ip.TokenEntropy()) as resumed:
        resumed.load_state_dict(save_and_load(one.state_dict()))
    resumed.merge(other)
    (finding,) = told(resumed)
    assert "in 1 of 3 passes, for which the probe was given no mask" in finding
    assert "in 1 of 3 passes by the mask" in finding


@pytest.mark.parametrize(
    "call",
    [
        lambda model, mask: model(ids(), mask),
        lambda model, mask: model(input_ids=ids(), attention_mask=mask),
        lambda model, mask: model(ids(), src_key_padding_mask=(mask == 0)),
    ],
)
def test_compiled_models(call):
    torch._dynamo.reset()
    model = Language()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for given, expected in ((None, "no mask"), ([PADDED] * 2, ""), ([FULL] * 2, "by the mask")):
        with ip.probe(model, "layer", ip.TokenEntropy()) as probe, torch.no_grad():
            for i in range(2):
                if given is not None:
                    probe.mask(given[i])
                call(compiled, PADDED)
        (finding,) = told(probe)
        assert expected in finding
        assert bool(finding) == bool(expected)
