"""A checkpoint in which anything changed is refused by name, and nothing of it is applied."""

import json
import os
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from infoprobe.datasets import ImageFiles
from infoprobe.models import Schedule, checkpoints, fit
from infoprobe.models.images import fingerprint

SCHEDULE = Schedule(epochs=2, batch_size=8, milestones=(1,))


def images():
    x = torch.randint(256, (80, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    return x.to(torch.uint8)


def build(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 3, padding=1))
    model.unused = nn.Identity()
    return model


def train(path, model=None, data=None, schedule=SCHEDULE):
    return fit(
        build() if model is None else model,
        images() if data is None else data,
        schedule,
        checkpoint=path,
        progress=False,
    )


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    train(path)
    return path


def refuses(path, match, **changed):
    """Training from the file raises a ValueError, and leaves model, file and generator alone."""
    model, content = build(seed=3), path.read_bytes()
    before = [x.clone() for x in (*model.state_dict().values(), torch.get_rng_state())]
    with pytest.raises(ValueError, match=f"(?s)checkpoint: .*{match}"):
        train(path, model, **changed)
    after = (*model.state_dict().values(), torch.get_rng_state())
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert path.read_bytes() == content


def flipped(content, bits):
    changed = bytearray(content)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_every_flipped_bit_is_found(path):
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    draw = random.Random(0)
    bits = [
        *(draw.randrange(64) for _ in range(8)),
        *(draw.randrange(64, 8 * header) for _ in range(60)),
        *(draw.randrange(8 * header, 8 * len(content)) for _ in range(60)),
    ]
    checkpoint = checkpoints.Checkpoint(
        path, model := build(), torch.optim.Adam(model.parameters()), {}, epochs=2, batches=10
    )
    for bit in bits:
        path.write_bytes(flipped(content, [bit]))
        with pytest.raises(ValueError, match=r"is damaged|was not written by fit"):
            checkpoint.start()
    path.write_bytes(flipped(content, [bits[-1]]))
    refuses(path, "is damaged, since its checksum is that of other content. Delete it")


@pytest.mark.parametrize("image", [0, 1, 37, 79])
def test_data_of_which_any_image_differs(path, image):
    data = images()
    data[image, 0, 2, 2] ^= 1
    refuses(path, "another data: there 80 images, checksum .*, here 80 images", data=data)


def test_data_that_differ_in_form(path):
    refuses(path, "another data", data=images().reshape(80, 1, 2, 8).expand(80, 1, 2, 8))
    refuses(path, "another data", data=images() / 255)
    # The order in memory does not count.
    assert len(train(path, data=images().to(memory_format=torch.channels_last))) == 2
    assert len(train(path, data=images().numpy())) == 2


class Lazy:
    def __init__(self, data, name=None):
        self.data = data
        if name is not None:
            self.fingerprint = lambda: name

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index]


def test_images_that_are_read_when_needed():
    data = images()
    assert fingerprint(Lazy(data)) == fingerprint(Lazy(data.clone()))
    assert fingerprint(Lazy(data)) != fingerprint(Lazy(255 - data))
    assert fingerprint(Lazy(data, "a")) == fingerprint(Lazy(data, "a"))
    assert fingerprint(Lazy(data, "a")) != fingerprint(Lazy(data, "b"))


def test_image_files(tmp_path):
    from PIL import Image

    paths = [tmp_path / f"{i:03}.png" for i in range(200)]
    for i, path in enumerate(paths):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(path)
    known = fingerprint(ImageFiles(paths))
    assert fingerprint(ImageFiles(paths)) == known
    assert fingerprint(ImageFiles([*paths[:-1], paths[0]])) != known
    paths[50].write_bytes(paths[50].read_bytes() + b"\0")  # not one of those that are read
    assert fingerprint(ImageFiles(paths)) != known


def rewritten(path, change):
    """The file with other content and the checksum of that."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    tensors, content = load_file(path), json.loads(header["__metadata__"]["infoprobe"])
    content = change(tensors, content) or content
    metadata = {"infoprobe": json.dumps(content), "sha256": 64 * "0"}
    save_file({name: x.clone() for name, x in tensors.items()}, path, metadata)
    path.write_bytes(checkpoints._sealed(path.read_bytes()))


def position(**changed):
    return lambda _, content: {**content, "position": content["position"] | changed}


@pytest.mark.parametrize(
    "change",
    [
        lambda _, content: {"training": content["training"]},
        lambda _, content: {"position": content["position"]},
        lambda _, content: {**content, "position": None},
        lambda _, content: {**content, "position": [1, 2]},
        lambda _, content: {**content, "position": {"epoch": 1}},
        lambda _, content: {**content, "training": None},
        lambda *_: [1],
        lambda *_: "text",
        position(epoch=10**9),
        position(epoch=-1),
        position(epoch=1),  # with a history of two
        position(epoch=1.0),
        position(epoch=None),
        position(epoch=True),
        position(epoch=1, step=10, history=[0.5]),
        position(step="1"),
        position(total=None),
        position(total=float("nan")),
        position(history=None),
        position(history=[0.5, "a"]),
        position(history={"a": 1}),
        position(more=1),
    ],
)
def test_metadata(path, change):
    rewritten(path, change)
    refuses(path, "model.safetensors is damaged, since .* Delete it")


def renamed(old, new):
    def change(tensors, _):
        tensors[new] = tensors.pop(old)

    return change


def changed(name, by):
    def change(tensors, _):
        tensors[name] = by(tensors[name])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed("model.0.weight", "model.1.weight"), "lacks the tensor 'model.0.weight'"),
        (renamed("adam.0.step", "adam.9.step"), "lacks the tensor 'adam.0.step'"),
        (renamed("adam.0.step", "adam.x"), "lacks the tensor 'adam.0.step'"),
        (renamed("random.cpu", "random"), "holds the tensor 'random'"),
        (lambda t, _: t.update(more=torch.ones(1)), "holds the tensor 'more'"),
        (lambda t, _: t.__delitem__("random.cpu"), "lacks the tensor 'random.cpu'"),
        (changed("model.0.weight", lambda x: x[:2]), r"'model.0.weight' is \(2, 1, 3, 3\)"),
        (changed("model.0.weight", torch.Tensor.double), "float64 instead of .* torch.float32"),
        (changed("adam.1.exp_avg", lambda x: x[:1]), r"'adam.1.exp_avg' is \(1,\)"),
        (changed("adam.1.step", torch.Tensor.long), "'adam.1.step' is .*int64"),
        (changed("random.cpu", lambda x: x[:9]), r"'random.cpu' is \(9,\)"),
        (changed("random.cpu", torch.Tensor.float), "'random.cpu' is .*float32"),
    ],
)
def test_tensors(path, change, message):
    rewritten(path, change)
    refuses(path, f"model.safetensors is damaged, since .*{message}.* Delete it")


def test_beyond_the_last_epoch(path):
    rewritten(path, position(step=1))
    with pytest.raises(ValueError, match="has done 2 epochs and 1 steps, and 2 epochs are asked"):
        train(path)


def test_an_earlier_format(path):
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    save_file(load_file(path), path, {"infoprobe": header["__metadata__"]["infoprobe"]})
    refuses(path, "written by an earlier version, without a checksum. Delete it")


def test_another_training_is_told_before_its_position(path):
    refuses(path, "another schedule", schedule=replace(SCHEDULE, milestones=(3,)))


@pytest.mark.skipif(os.name != "posix", reason="needs links and pipes of POSIX")
def test_links_and_pipes(tmp_path, path):
    link, other = tmp_path / "link", tmp_path / "other"
    link.symlink_to("file")
    (tmp_path / "link.tmp").symlink_to(other)
    train(link)
    assert link.is_symlink()
    assert (tmp_path / "file").stat().st_size > 1000
    assert not other.exists()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"expected the path of a file.*is a pipe"):
        train(tmp_path / "pipe")
    with pytest.raises(TypeError, match="checkpoint: expected the path of a file, got 3"):
        train(3)
