import copy
import pickle

import pytest
import torch

import infoprobe as ip


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_probe_is_not_copied_and_says_what_is(take):
    model = torch.nn.Linear(3, 2)
    with ip.probe(model) as probe:
        with pytest.raises(TypeError, match=r"probe\.state_dict\(\), from which another probe"):
            take(probe)
        model(torch.randn(20, 3))
    report = probe.report()
    assert report.rows[0]["n"] == 20
    assert take is pickle.dumps or take(report) == report
    assert pickle.loads(pickle.dumps(report)) == report
