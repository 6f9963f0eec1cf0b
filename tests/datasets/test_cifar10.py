import io
import os
import pickle
import re
import struct
import tarfile
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import infoprobe as ip

NAMES = ["test_batch", *(f"data_batch_{i}" for i in range(1, 6))]


class Python2Pickler(pickle._Pickler):
    """Pickles text and bytes as the str of Python 2, in which CIFAR-10 was written."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_text(self, obj):
        data = obj.encode("latin1") if isinstance(obj, str) else obj
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(obj)

    dispatch[str] = dispatch[bytes] = save_text


def batch(seed, n=4):
    """Images (n, 3072) and labels (n,)."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (n, 3072), dtype=np.uint8)
    return images, generator.integers(0, 10, n, dtype=np.uint8)


def python_batch(images, labels):
    contents = {b"data": images, b"labels": labels.tolist(), b"batch_label": b"batch 1 of 5"}
    return pickle.dumps(contents, protocol=2)


def python2_batch(images, labels):
    file = io.BytesIO()
    # NumPy 2 would pickle an array through a function that Python 2's NumPy did not have, and
    # the last two arguments of a dtype as truth values.
    array, dtype = np.ndarray.__reduce__(images), np.dtype(np.uint8)
    pickler = Python2Pickler(file, protocol=2)
    pickler.dispatch_table = {
        np.ndarray: lambda _: array,
        type(dtype): lambda _: (np.dtype, ("u1", 0, 1), dtype.__reduce__()[2]),
    }
    pickler.dump({"data": images, "labels": labels.tolist()})
    return file.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


def binary_batch(images, labels):
    return np.concatenate([labels[:, None], images], axis=1).tobytes()


def write_archive(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


FORMS = {
    "python": (python_batch, "cifar-10-batches-py", "", "cifar-10-python.tar.gz"),
    "python2": (python2_batch, "cifar-10-batches-py", "", "cifar-10-python.tar.gz"),
    "binary": (binary_batch, "cifar-10-batches-bin", ".bin", "cifar-10-binary.tar.gz"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["root", "torchvision", "archive"])
def test_forms_and_layouts(tmp_path, form, place):
    write, layout, suffix, archive = FORMS[form]
    batches = [batch(seed) for seed in range(6)]
    files = {name + suffix: write(*b) for name, b in zip(NAMES, batches, strict=True)}
    if place == "archive":
        write_archive(tmp_path / archive, {f"{layout}/{name}": files[name] for name in files})
    else:
        folder = tmp_path / (layout if place == "torchvision" else "")
        folder.mkdir(exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    before = sorted(tmp_path.iterdir())
    images, labels = ip.datasets.load("cifar10", tmp_path)
    assert images.shape == (20, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert images.flatten(1).tolist() == np.concatenate([b[0] for b in batches[1:]]).tolist()
    assert labels.tolist() == np.concatenate([b[1] for b in batches[1:]]).tolist()
    images, labels = ip.datasets.load("cifar10", tmp_path, "test")
    assert images.flatten(1).tolist() == batches[0][0].tolist()
    assert labels.tolist() == batches[0][1].tolist()
    assert sorted(tmp_path.iterdir()) == before


def test_the_real_subset(cifar10_root, cifar10_test_images):
    images, labels = ip.datasets.load("cifar10", cifar10_root, "test")
    assert images.shape == (1017, 3, 32, 32)
    assert torch.equal(images[:1000], cifar10_test_images)
    assert labels.min() == 0
    assert labels.max() == 9
    assert len(ip.datasets.load("cifar10", cifar10_root)[0]) == 8068


def test_the_real_subset_as_binary_batches(cifar10_root, cifar10_test_images, tmp_path):
    images, labels = ip.datasets.load("cifar10", cifar10_root, "test")
    data = binary_batch(images.flatten(1).numpy(), labels.numpy().astype(np.uint8))
    (tmp_path / "test_batch.bin").write_bytes(data)
    again, labels_again = ip.datasets.load("cifar10", tmp_path, "test")
    assert torch.equal(again[:1000], cifar10_test_images)
    assert torch.equal(labels_again, labels)


def test_the_standard_files_come_before_the_subset(tmp_path):
    np.savez(
        tmp_path / "cifar10-subset.npz",
        test_images=batch(0, 3)[0].reshape(-1, 3, 32, 32),
        test_labels=batch(0, 3)[1],
    )
    assert len(ip.datasets.load("cifar10", tmp_path, "test")[0]) == 3
    (tmp_path / "test_batch.bin").write_bytes(binary_batch(*batch(1, 5)))
    assert len(ip.datasets.load("cifar10", tmp_path, "test")[0]) == 5


def test_half_of_the_batches_are_no_subset(tmp_path):
    subset(
        tmp_path, train_images=np.zeros((4, 3, 32, 32), np.uint8), train_labels=np.zeros(4, int)
    )
    assert len(ip.datasets.load("cifar10", tmp_path)[0]) == 4
    (tmp_path / "data_batch_1").write_bytes(python_batch(*batch(0)))
    with pytest.raises(FileNotFoundError, match="all of data_batch_1"):
        ip.datasets.load("cifar10", tmp_path)


def test_missing(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(python_batch(*batch(0)))
    with pytest.raises(
        FileNotFoundError, match=r"all of data_batch_1, .*, data_batch_5"
    ) as caught:
        ip.datasets.load("cifar10", tmp_path)
    assert str(tmp_path / "cifar-10-batches-bin") in str(caught.value)
    assert "download=True" in str(caught.value)


def test_damaged_python_batches(tmp_path):
    path = tmp_path / "test_batch"
    whole = python_batch(*batch(0))
    images, labels = batch(0)
    cases = {
        "it is not a CIFAR-10 batch": [
            whole[:-100],
            b"",
            b"text",
            pickle.dumps({b"data": np.zeros(3)}),
            pickle.dumps([]),
        ],
        "labels are not one of 0 to 9 for each of 4": [
            python_batch(images, labels[:3]),
            python_batch(images, labels + np.uint8(10)),
        ],
        r"its images have shape \(4, 3, 32, 32\) and dtype float64": [
            python_batch(images.astype(float), labels)
        ],
    }
    for message, damages in cases.items():
        for data in damages:
            path.write_bytes(data)
            with pytest.raises(ValueError, match=rf"test_batch: .*{message}"):
                ip.datasets.load("cifar10", tmp_path, "test")


def test_a_file_that_would_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, ("exit 1",)

    (tmp_path / "test_batch").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=r"it holds a (posix|nt).system"):
        ip.datasets.load("cifar10", tmp_path, "test")
    # These are names that arrays use, but in modules that would run code when imported.
    (tmp_path / "test_batch").write_bytes(b"cnumpy.f2py.__main__\ndtype\n.")
    with pytest.raises(ValueError, match=r"it holds a numpy\.f2py\.__main__\.dtype"):
        ip.datasets.load("cifar10", tmp_path, "test")


@given(data=st.data())
def test_no_changed_byte_of_a_pickle_does_harm(tmp_path_factory, data):
    """NumPy itself would write to memory that is not its own, and crash the interpreter."""
    folder = tmp_path_factory.mktemp("cifar10")
    whole = bytearray(data.draw(st.sampled_from([python_batch, python2_batch]))(*batch(0, 1)))
    at = data.draw(st.integers(0, min(len(whole), 250) - 1))  # before the pixels
    whole[at] = data.draw(st.integers(0, 255))
    (folder / "test_batch").write_bytes(whole)
    try:
        found = ip.datasets.load("cifar10", folder, "test")[0].shape[1:]
    except ValueError as error:
        found = str(error).split(": ")[0]
    assert found in [(3, 32, 32), str(folder / "test_batch")]


def test_damaged_binary_batches(tmp_path):
    path = tmp_path / "test_batch.bin"
    for data in (b"", binary_batch(*batch(0))[:-1]):
        path.write_bytes(data)
        with pytest.raises(
            ValueError, match=rf"{len(data):,} bytes, which are no records of 3,073"
        ):
            ip.datasets.load("cifar10", tmp_path, "test")
    path.write_bytes(bytes([10]) * 3073)
    with pytest.raises(ValueError, match=r"test_batch\.bin: its labels are not one of 0 to 9"):
        ip.datasets.load("cifar10", tmp_path, "test")


def test_damaged_archives(tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_archive(path, {"cifar-10-batches-bin/test_batch.bin": binary_batch(*batch(0))})
    with pytest.raises(ValueError, match=r"it holds no data_batch_1.bin, .*data_batch_5.bin"):
        ip.datasets.load("cifar10", tmp_path)
    whole = path.read_bytes()
    for data in (b"", b"text", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"cifar-10-binary.tar.gz: it does not unpack"):
            ip.datasets.load("cifar10", tmp_path, "test")
    write_archive(path, {"cifar-10-batches-bin/test_batch.bin": b"text"})
    with pytest.raises(
        ValueError, match=r"cifar-10-binary.tar.gz.test_batch.bin: it holds 4 byte"
    ):
        ip.datasets.load("cifar10", tmp_path, "test")


def test_an_archive_that_reaches_out_of_its_folder(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    files = {"../evil": b"evil", "/tmp/../test_batch.bin": binary_batch(*batch(0))}
    write_archive(root / "cifar-10-binary.tar.gz", files)
    assert len(ip.datasets.load("cifar10", root, "test")[0]) == 4
    assert [path.name for path in tmp_path.rglob("*")] == ["root", "cifar-10-binary.tar.gz"]


def subset(tmp_path, **arrays):
    images, labels = batch(0)
    arrays = {"test_images": images.reshape(-1, 3, 32, 32), "test_labels": labels} | arrays
    np.savez_compressed(tmp_path / "cifar10-subset.npz", **arrays)
    return tmp_path / "cifar10-subset.npz"


def test_damaged_subsets(tmp_path):
    subset(tmp_path)
    with pytest.raises(ValueError, match=r"cifar10-subset.npz: it holds no arrays train_images"):
        ip.datasets.load("cifar10", tmp_path, "train")
    subset(tmp_path, test_images=np.zeros((4, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match=r"images have shape \(4, 32, 32, 3\)"):
        ip.datasets.load("cifar10", tmp_path, "test")
    for labels in (np.zeros(4), np.zeros(4, bool), np.zeros(4, [("a", int)])):
        subset(tmp_path, test_labels=labels)
        with pytest.raises(ValueError, match="its labels are not one of 0 to 9"):
            ip.datasets.load("cifar10", tmp_path, "test")
    subset(tmp_path, test_images=np.uint8(3))
    with pytest.raises(ValueError, match=r"images have shape \(\)"):
        ip.datasets.load("cifar10", tmp_path, "test")
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "cifar10-subset.npz").write_bytes((tmp_path / "one.npy").read_bytes())
    with pytest.raises(ValueError, match=r"it holds no arrays test_images"):
        ip.datasets.load("cifar10", tmp_path, "test")


@given(data=st.data())
def test_no_truncation_goes_unnoticed(tmp_path_factory, data):
    """Wherever a file ends early, the error names the file."""
    folder = tmp_path_factory.mktemp("cifar10")
    write = data.draw(st.sampled_from([python_batch, binary_batch, "archive", "npz"]))
    if write == "npz":
        path = subset(folder)
    elif write == "archive":
        path = folder / "cifar-10-binary.tar.gz"
        write_archive(path, {"test_batch.bin": binary_batch(*batch(0))})
    else:
        path = folder / ("test_batch" if write is python_batch else "test_batch.bin")
        path.write_bytes(write(*batch(0, 1)))
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ValueError, match=re.escape(f"{path}: it ")):
        ip.datasets.load("cifar10", folder, "test")
