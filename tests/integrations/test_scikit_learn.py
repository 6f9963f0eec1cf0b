import math

import numpy as np
import pytest

from infoprobe.integrations.scikit_learn import mutual_information_scores

pytest.importorskip("sklearn", reason="needs scikit-learn")


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(800, 3)) * [1e-9, 1.0, 1e6]
    return x, x[:, 1] + random.normal(size=800)


def test_the_scores_are_the_information_of_each_feature(data):
    first, second, third = mutual_information_scores(*data)
    assert second == pytest.approx(0.5 * math.log(2), abs=0.1)
    assert max(abs(first), abs(third)) < 0.1


def test_labels(data):
    x, _ = data
    scores = mutual_information_scores(x, (x[:, 2] > 0).astype(int))
    assert scores.argmax() == 2
    assert scores[2] == pytest.approx(math.log(2), abs=0.1)


def test_it_selects_features(data):
    from sklearn.feature_selection import SelectKBest

    selection = SelectKBest(mutual_information_scores, k=1).fit(*data)
    assert list(selection.get_support()) == [False, True, False]


def test_bad_input_is_named(data):
    with pytest.raises(ValueError, match=r"X: expected a matrix \(n, d\) of samples"):
        mutual_information_scores(data[1], data[1])
