import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import infoprobe as ip


def write_idx(path, array, magic=None):
    header = struct.pack(f">{1 + array.ndim}I", magic or 0x0800 + array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = header + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def some_digits(n=7):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    return images, (np.arange(n) % 10).astype(np.uint8)


@pytest.mark.parametrize("layout", ["", "MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_layouts(tmp_path, layout, suffix, split, prefix):
    digits = some_digits()
    for kind, array in zip(["images-idx3", "labels-idx1"], digits, strict=True):
        write_idx(tmp_path / layout / f"{prefix}-{kind}-ubyte{suffix}", array)
    images, labels = ip.datasets.load("mnist", tmp_path, split)
    assert images.shape == (7, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert images.numpy()[:, 0].tolist() == digits[0].tolist()
    assert labels.tolist() == list(range(7))


def test_the_real_files(mnist_root, mnist_test_images):
    images, labels = ip.datasets.load("mnist", mnist_root, "test")
    assert images.shape == (10_000, 1, 28, 28)
    assert torch.equal(images[:1000], mnist_test_images)
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    images, labels = ip.datasets.load("mnist", mnist_root / "MNIST" / "raw")
    assert images.shape == (60_000, 1, 28, 28)
    assert labels.bincount().min() == 5421
    # This is the MD5 checksum of the unpacked file, which does not depend on the packing.
    header = struct.pack(">4I", 0x803, 60_000, 28, 28)
    published = "6bbc9ace898e44ae57da46a324031adb"
    assert hashlib.md5(header + images.numpy().tobytes()).hexdigest() == published


def test_missing(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"found none of .*train-images-idx3-ubyte\.gz.* download=True"
    ):
        ip.datasets.load("mnist", tmp_path)


def test_damaged(tmp_path):
    images, labels = some_digits()
    path = tmp_path / "train-images-idx3-ubyte"
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    cases = {
        "2,743 values .* says": lambda data: data[:-2745],
        "ends within the header, after 5 bytes": lambda data: data[:5],
        "magic number is 0x801 instead of 0x803": lambda data: data[:3] + b"\1" + data[4:],
    }
    for message, damage in cases.items():
        write_idx(path, images)
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(ValueError, match=message) as caught:
            ip.datasets.load("mnist", tmp_path)
        assert str(path) in str(caught.value)
    for shape in ((7, 20, 30), (0, 2**32 - 1, 2**32 - 1)):
        header = struct.pack(">4I", 0x0803, *shape)
        path.write_bytes(header + bytes(7 * 600 if shape[0] else 0))
        with pytest.raises(ValueError, match=r"its header says .* instead of \['n', 28, 28\]"):
            ip.datasets.load("mnist", tmp_path)
    write_idx(path, images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels + np.uint8(200))
    with pytest.raises(ValueError, match=r"train-labels-.*: its labels .* but up to 206"):
        ip.datasets.load("mnist", tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    write_idx(path, images[:5])
    with pytest.raises(ValueError, match=r"train-labels-.*: it holds 7 labels for the 5 images"):
        ip.datasets.load("mnist", tmp_path)


@given(keep=st.integers(min_value=0, max_value=5000))
def test_truncated_gzip(tmp_path_factory, keep):
    folder = tmp_path_factory.mktemp("mnist")
    images, labels = some_digits()
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", labels)
    path = folder / "t10k-images-idx3-ubyte.gz"
    write_idx(path, images)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"images-idx3-ubyte\.gz: it (does not decompress|ends)"):
        ip.datasets.load("mnist", folder, "test")


def test_what_is_no_gzip(tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    (tmp_path / "t10k-labels-idx1-ubyte.gz").touch()
    with pytest.raises(ValueError, match=r"does not decompress .* Delete it and fetch it again"):
        ip.datasets.load("mnist", tmp_path, "test")
