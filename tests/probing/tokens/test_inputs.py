"""Which of several arguments is the model's input."""

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.errors import ArgumentError
from tests.probing.helpers import H, save_and_load

MEASURES = ip.Divergence(H, reference="input")
A, B = torch.randn(30, 3), torch.rand(30, 3)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Tanh()

    def forward(self, a, b=None, attention_mask=None, **others):
        return self.layer(a if b is None else a + b)


class Words(Two):
    """Named as models of Hugging Face are."""

    main_input_name = "input_ids"

    def forward(self, attention_mask=None, input_ids=None, extra=None):
        return self.layer(input_ids.float())


def rows(model, *args, chosen=None, **kwargs):
    with ip.probe(model, measures=MEASURES, input=chosen) as probe:
        model(*args, **kwargs)
    return probe.report().rows


@pytest.mark.parametrize(
    ("chosen", "reference"), [(None, A), ("a", A), ("b", B)], ids=["usual", "a", "b"]
)
@pytest.mark.parametrize("by_name", [True, False])
def test_the_input_is_the_chosen_argument(chosen, reference, by_name):
    args, kwargs = ((), {"a": A, "b": B}) if by_name else ((A, B), {})
    (row,) = rows(Two(), *args, chosen=chosen, **kwargs)
    assert row["value"] == pytest.approx(float(H.kl_divergence(reference, (A + B).tanh())))
    said = [found for found in row["findings"] if "is taken to be a; it was given b" in found]
    assert len(said) == (chosen is None)


def test_masks_are_no_inputs():
    (row,) = rows(Two(), attention_mask=torch.ones(30, 3), a=A)
    assert row["value"] == pytest.approx(float(H.kl_divergence(A, A.tanh())))
    assert not any("is taken to be" in found for found in row["findings"])


def test_the_main_input_of_a_model_of_words():
    ids, extra = torch.randint(0, 9, (30, 3)), torch.randn(30, 3)
    measure = ip.MutualInformation(ip.Histogram(9, over="samples", range="minmax"))
    with ip.probe(model := Words(), measures=measure) as probe:
        model(attention_mask=torch.ones(30, 3), extra=extra, input_ids=ids)
    (row,) = probe.report().rows
    expected = measure.estimator.mutual_information(ids, ids.float().tanh())
    assert row["value"] == pytest.approx(float(expected))
    assert "is taken to be input_ids; it was given extra, too" in row["findings"][0]
    assert row["findings"][0].endswith(" [several-inputs]")


def test_an_argument_that_is_not_given():
    with pytest.warns(RuntimeWarning, match="there is no tensor"):
        (row,) = rows(Two(), A, chosen="b")
    assert row["value"] is None


def test_what_was_said_is_saved():
    with ip.probe(model := Two(), measures=MEASURES) as probe:
        model(A, B)
    again = ip.probe(model, measures=MEASURES)
    again.load_state_dict(save_and_load(probe.state_dict()))
    assert again.report().rows == probe.report().rows


def test_wrapped_models():
    (row,) = rows(nn.DataParallel(Two()), A, chosen="a")
    assert row["value"] == pytest.approx(float(H.kl_divergence(A, A.tanh())))


@pytest.mark.parametrize("bad", ["input_id", "", 3])
def test_unknown_names_are_told_at_once(bad):
    with pytest.raises(ArgumentError, match="input: expected"):
        ip.probe(Words(), input=bad)
    with pytest.raises(ArgumentError, match="whose arguments have no names"):
        ip.probe(torch.distributions.ExpTransform(), input="x")
