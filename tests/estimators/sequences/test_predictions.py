"""Entropies and divergences of predictions, against float64 and closed forms."""

import math

import pytest
import torch

from infoprobe.estimators.sequences.predictions import Predictions, divergences, entropies
from tests.textbook_sequences import textbook_prediction_divergence, textbook_prediction_entropy

LARGE = 150_000


@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_a_large_vocabulary_in_any_precision(scale, dtype):
    final, logits = (scale * torch.randn(2, 3, LARGE)).to(dtype)
    p, q = Predictions.of(final), Predictions.of(logits)
    wide_final, wide = final.double().numpy(), logits.double().numpy()
    truth = [textbook_prediction_entropy(z) for z in wide]
    assert entropies(q).tolist() == pytest.approx(truth, abs=1e-6, rel=1e-7)
    truth = [textbook_prediction_divergence(a, b) for a, b in zip(wide_final, wide, strict=True)]
    assert divergences(p, q).tolist() == pytest.approx(truth, abs=1e-6, rel=1e-7)


def test_closed_forms():
    even = Predictions.of(torch.full((1, LARGE), 3.0, dtype=torch.bfloat16))
    assert entropies(even).item() == pytest.approx(math.log(LARGE), abs=1e-9)
    sure = torch.zeros(1, LARGE)
    sure[0, 5] = 200.0
    certain = Predictions.of(sure)
    assert entropies(certain).item() == pytest.approx(0, abs=1e-12)
    assert divergences(certain, even).item() == pytest.approx(math.log(LARGE), abs=1e-9)
    assert divergences(even, even).item() == 0


def test_tokens_that_are_ruled_out_add_nothing():
    logits = torch.zeros(1, 8)
    logits[0, 4:] = -math.inf
    p, q = Predictions.of(logits), Predictions.of(torch.zeros(1, 8))
    assert entropies(p).item() == pytest.approx(math.log(4))
    assert divergences(p, p).item() == 0
    assert divergences(p, q).item() == pytest.approx(math.log(2))
    assert divergences(q, p).item() == math.inf
