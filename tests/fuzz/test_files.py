"""Damaged files: what was in them, or a refusal by name."""

import gzip
import io
import json
import pickle
import tarfile

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import infoprobe as ip
from infoprobe.models import Schedule, fit
from tests.fuzz.attack import outcome, profile
from tests.fuzz.hostile import FLOATS
from tests.reporting.rows import report, row


@st.composite
def damages(draw):
    """A function that damages bytes: flips, cuts, repetitions, other bytes in between."""
    kind = draw(st.sampled_from(["flip", "flip", "cut", "repeat", "insert", "replace", "swap"]))
    where, other = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    bit, extra = draw(st.integers(0, 7)), draw(st.binary(min_size=1, max_size=9))

    def damage(data):
        i, j = sorted((int(where * (len(data) - 1)), int(other * (len(data) - 1))))
        if kind == "flip":
            return data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :]
        if kind == "cut":
            return data[:i]
        if kind == "repeat":
            return data[:j] + data[i:]
        if kind == "insert":
            return data[:i] + extra + data[i:]
        if kind == "replace":
            return data[:i] + extra + data[i + len(extra) :]
        return data[:i] + data[j:] + data[i:j]

    return damage


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(FLOATS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def shows(loaded, folder):
    """Whatever is accepted can be shown in each way."""
    if loaded is None:
        return
    repr(loaded).encode()
    loaded.scalars()
    loaded.to_dataframe()
    loaded.save(folder / "again.json")
    assert repr(ip.Report.load(folder / "again.json").rows) == repr(loaded.rows)
    outcome(loaded.ledger)
    outcome(lambda: loaded.to_html(folder / "page.html"))


@profile()
@given(damages())
def test_reports(tmp_path, damage):
    path = tmp_path / "report.json"
    report({"value": float("inf"), "findings": ["é"]}, {"layer": "b", "step": 3}).save(path)
    path.write_bytes(damage(path.read_bytes()))
    shows(outcome(lambda: ip.Report.load(path)), tmp_path)


@profile(2)
@given(st.sampled_from(list(row())), json_values, st.sampled_from(["one", "key", "rows", "all"]))
def test_fields_of_reports(tmp_path, key, value, where):
    path = tmp_path / "report.json"
    rows = [row(), row(layer="b")]
    rows[1] = {
        "one": {**row(), key: value},
        "key": {**row(), str(value): value},
        "rows": value,
        "all": row(),
    }[where]
    document = {"format": "infoprobe report", "version": 2, "settings": {}, "rows": rows}
    if where == "all":
        document[["format", "version", "rows"][len(key) % 3]] = value
    path.write_text(json.dumps(document))
    shows(outcome(lambda: ip.Report.load(path)), tmp_path)


def _train(path):
    torch.manual_seed(0)
    model = nn.Conv2d(1, 1, 1)
    x = torch.arange(64, dtype=torch.uint8).reshape(16, 1, 2, 2)
    fit(model, x, Schedule(1, 8), checkpoint=path, progress=False)
    return model.weight


@profile()
@given(damages())
def test_checkpoints(tmp_path, damage):
    path = tmp_path / "model.safetensors"
    path.unlink(missing_ok=True)
    _train(path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    resumed = outcome(lambda: _train(path))
    assert resumed is None or path.read_bytes() == whole


def _idx(array):
    header = (0x800 + array.ndim).to_bytes(4, "big")
    return header + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
LABELS = np.arange(5, dtype=np.uint8)


@profile(2)
@given(damages(), st.booleans(), st.booleans())
def test_idx(tmp_path, damage, packed, of_labels):
    for file in tmp_path.iterdir():
        file.unlink()
    for name, array, hit in (
        ("t10k-images-idx3-ubyte", IMAGES, not of_labels),
        ("t10k-labels-idx1-ubyte", LABELS, of_labels),
    ):
        data = _idx(array)
        data = gzip.compress(data) if packed else data
        path = tmp_path / (name + (".gz" if packed else ""))
        path.write_bytes(damage(data) if hit else data)
    found = outcome(lambda: ip.datasets.load("mnist", tmp_path, "test"))
    assert found is None or len(found[0]) == len(found[1]) > 0
    if found is not None and packed:  # where a checksum tells
        assert found[0].numpy().tobytes() == IMAGES.tobytes()


def _cifar10():
    images = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    labels = [1, 2, 3, 9]
    batch = pickle.dumps({b"data": images, b"labels": labels}, protocol=2)
    archive, arrays = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as file:
        member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        member.size = len(batch)
        file.addfile(member, io.BytesIO(batch))
    np.savez_compressed(
        arrays, test_images=images.reshape(4, 3, 32, 32), test_labels=np.array(labels)
    )
    binary = np.concatenate([np.array(labels, np.uint8)[:, None], images], 1).tobytes()
    return {
        "test_batch": batch,
        "test_batch.bin": binary,
        "cifar-10-python.tar.gz": archive.getvalue(),
        "cifar10-subset.npz": arrays.getvalue(),
    }


CIFAR10 = _cifar10()


@profile(4)
@given(damages(), st.sampled_from(list(CIFAR10)))
def test_cifar10(tmp_path, damage, name):
    for file in tmp_path.iterdir():
        file.unlink()
    (tmp_path / name).write_bytes(damage(CIFAR10[name]))
    found = outcome(lambda: ip.datasets.load("cifar10", tmp_path, "test"))
    assert found is None or len(found[0]) == len(found[1]) > 0


@profile(2)
@given(damages(), st.sampled_from(["png", "jpeg", "bmp", "gif", "ppm", "tiff", "webp"]))
def test_images(tmp_path, damage, form):
    data = io.BytesIO()
    Image.fromarray(IMAGES[0]).convert("RGB").save(data, form)
    path = tmp_path / "image"
    path.write_bytes(damage(data.getvalue()))
    found = outcome(lambda: ip.datasets.ImageFiles([path])[:])
    assert found is None or found.dtype == torch.uint8
