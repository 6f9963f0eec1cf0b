"""Arrays of other libraries come in by DLPack."""

import numpy as np
import pandas
import pytest
import scipy.sparse
import torch

import infoprobe as ip
from infoprobe import checks


class Other:
    """An array of a library that gives its memory to others by DLPack alone."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **settings):
        return self.tensor.__dlpack__(**settings)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


class Elsewhere(Other):
    """The same, on a device of which torch knows nothing."""

    def __dlpack__(self, **_):
        raise BufferError("not on device 7")

    def __dlpack_device__(self):
        return (14, 7)


class ReadOnly(Elsewhere):
    """The same, of read-only memory, which it gives to NumPy as a copy."""

    def __array__(self, *_, **__):
        return self.tensor.numpy().copy()


def data(dtype=torch.float64):
    return torch.randn(60, 3, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint8]
)
def test_the_same_numbers_and_the_same_memory(dtype):
    x = (9 * data()).abs().to(dtype)
    taken = checks.as_tensor(Other(x), "x")
    assert torch.equal(taken, x)
    assert taken.data_ptr() == x.data_ptr()
    assert ip.entropy(Other(x)) == ip.entropy(x)


def test_every_way_in():
    x, y = data(), data().flip(0)
    a, b = Other(x), Other(y)
    for estimator in (ip.Histogram(8), ip.KNN(), ip.Gaussian(), ip.MatrixRenyi()):
        assert estimator.mutual_information(a, b) == estimator.mutual_information(x, y)
    assert ip.diagnose(a, ip.KNN()) == ip.diagnose(x, ip.KNN())
    assert ip.entropy_change(torch.exp, a).value == ip.entropy_change(torch.exp, x).value
    assert torch.equal(ip.nearest_neighbors(a, 2)[1], ip.nearest_neighbors(x, 2)[1])
    model = torch.nn.Linear(3, 2).double()
    with ip.probe(model, measures=ip.MutualInformation(ip.KNN(), "target")) as probe:
        probe.target(Other(torch.arange(60) % 2))
        model(x)
    assert probe.report().rows[0]["value"] is not None


def test_arrays_of_numpy_that_are_read_only_or_swapped():
    x = data().numpy()
    x.flags.writeable = False
    swapped = x.astype(">f8")
    assert ip.entropy(x) == ip.entropy(swapped) == ip.entropy(data())


def test_memory_that_cannot_be_shared_is_copied():
    assert ip.entropy(ReadOnly(data())) == ip.entropy(data())


def test_a_device_that_torch_does_not_know_is_named():
    with pytest.raises(TypeError, match=r"^q: .* share, got Elsewhere \(not on device 7\)\. Copy"):
        ip.kl_divergence(data(), Elsewhere(data()))


class OnGPU(Elsewhere):
    """An array of CuPy, which NumPy does not copy by itself."""

    def __array__(self, *_, **__):
        raise TypeError("use .get()")


def test_both_reasons_are_told_where_nobody_can_read_an_array():
    reasons = r"got OnGPU \(not on device 7; use \.get\(\)\)\. Copy it .* \(x\.get\(\) in CuPy\)"
    with pytest.raises(TypeError, match=reasons):
        ip.entropy(OnGPU(data()))


@pytest.mark.parametrize("kind", [list, np.array, pandas.Series, pandas.Categorical])
def test_texts_are_refused_with_a_way_out_that_works(kind):
    labels, x = kind(["a", "c", "b"] * 20), data()
    with pytest.raises(TypeError, match=r"y: .* np\.unique\(x, return_inverse=True\)\[1\]\.$"):
        ip.mutual_information(x, labels)
    assert ip.mutual_information(x, np.unique(labels, return_inverse=True)[1]).isfinite()


def test_other_things_that_hold_no_numbers():
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    with pytest.raises(TypeError, match="of a data frame the columns that hold numbers"):
        ip.entropy(frame)
    assert ip.entropy(frame[["a"]]).isfinite()
    with pytest.raises(TypeError, match=r"Pass x\.toarray\(\)"):
        ip.entropy(scipy.sparse.eye(3))
    for thing in (None, "text", {"a": 1.0}, torch.nn.ReLU()):
        with pytest.raises(TypeError, match="Convert it to a numeric torch tensor"):
            ip.entropy(thing)


def test_complex_and_empty_arrays_are_refused_as_tensors_are():
    with pytest.raises(TypeError, match=r"^x: expected real numbers, got dtype torch\.complex64"):
        ip.entropy(Other(torch.ones(3, dtype=torch.complex64)))
    with pytest.raises(ValueError, match=r"^x: expected at least one value"):
        ip.entropy(Other(torch.ones(0)))


def test_the_class_of_an_array_is_no_array():
    for kind in (torch.Tensor, np.ndarray, Other):
        with pytest.raises(TypeError, match=r"^x: expected"):
            ip.entropy(kind)


def test_lists_of_tensors():
    parts = [torch.rand(3) for _ in range(4)]
    assert torch.equal(checks.as_tensor(parts, "x"), torch.stack(parts))
    assert torch.equal(checks.as_tensor(tuple(parts), "x"), torch.stack(parts))
    with pytest.raises(
        TypeError, match="x: expected a tensor or an array of real numbers, got list"
    ):
        checks.as_tensor([torch.rand(3), torch.rand(2)], "x")
