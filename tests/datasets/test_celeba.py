import numpy as np
import pytest
import torch
from PIL import Image

import infoprobe as ip

N = 20
NAMES = [f"{i:06}.jpg" for i in range(1, N + 1)]


def attributes():
    return np.random.default_rng(0).integers(0, 2, (N, 40))


def write_partition(path, parts):
    path.write_text("".join(f"{n} {p}\n" for n, p in zip(NAMES, parts, strict=True)))


def write_attributes(path):
    rows = ("  ".join([n, *map(str, 2 * a - 1)]) for n, a in zip(NAMES, attributes(), strict=True))
    names = " ".join(f"Attribute_{i}" for i in range(40))
    path.write_text("\n".join([str(N), names, *rows]) + "\n")


@pytest.fixture
def celeba(tmp_path):
    """A root in torchvision's layout; the grey level of each image is ten times its number."""
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES, 1):
        Image.new("RGB", (178, 218), (10 * number,) * 3).save(folder / name)
    return tmp_path


def numbers(images):
    return (images[:].float().mean((1, 2, 3)) / 10).round().int().tolist()


@pytest.mark.parametrize("root", [".", "celeba", "celeba/img_align_celeba"])
def test_layouts(celeba, root, monkeypatch):
    write_attributes(celeba / "celeba" / "list_attr_celeba.txt")
    monkeypatch.chdir(celeba / root)
    for path in (celeba / root, "."):
        images, labels = ip.datasets.load("celeba", path, "test")
        assert images.shape == (4, 3, 218, 178)
        assert labels.dtype == torch.int64
        assert labels.numpy().tolist() == attributes()[np.array(numbers(images)) - 1].tolist()


def test_size_of_the_invertible_model(celeba):
    images, _ = ip.datasets.load("celeba", celeba, size=128)
    assert images.shape == (16, 3, 156, 128)
    assert images[torch.tensor([3, 0])].shape == (2, 3, 156, 128)


def test_the_official_split(celeba):
    parts = [0] * 10 + [1] * 4 + [2] * 6
    write_partition(celeba / "celeba" / "list_eval_partition.txt", parts)
    write_attributes(celeba / "celeba" / "list_attr_celeba.txt")
    train, labels = ip.datasets.load("celeba", celeba)
    assert numbers(train) == list(range(1, 11))
    assert labels.tolist() == attributes()[:10].tolist()
    test, labels = ip.datasets.load("celeba", celeba, "test")
    assert numbers(test) == list(range(15, 21))
    assert labels.tolist() == attributes()[14:].tolist()


def test_the_random_split(celeba):
    train, labels = ip.datasets.load("celeba", celeba, "train")
    test, _ = ip.datasets.load("celeba", celeba, "test")
    assert labels.shape == (16, 0)
    assert numbers(test) == [1, 4, 13, 16]  # the same split in every version
    assert sorted(numbers(train) + numbers(test)) == list(range(1, N + 1))


def test_training_takes_it(celeba):
    """Training asks the data for their length, and for batches by a tensor of indices."""
    images, _ = ip.datasets.load("celeba", celeba, size=16)
    order = torch.randperm(len(images))
    batch = images[order[:5]]
    assert batch.shape == (5, 3, 19, 16)
    assert batch.dtype == torch.uint8
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1))
    schedule = ip.models.Schedule(epochs=1, batch_size=8)
    assert len(ip.models.fit(model, images, schedule, progress=False)) == 1


def test_what_lies_about(celeba):
    """An image in root, and a folder that is a link, change nothing."""
    parts = [0] * 10 + [2] * 10
    write_partition(celeba / "celeba" / "list_eval_partition.txt", parts)
    Image.new("RGB", (9, 9)).save(celeba / "logo.jpg")
    assert len(ip.datasets.load("celeba", celeba)[0]) == 10
    (celeba / "elsewhere").mkdir()
    (celeba / "elsewhere" / "img_align_celeba").symlink_to(celeba / "celeba" / "img_align_celeba")
    assert len(ip.datasets.load("celeba", celeba / "elsewhere")[0]) == 10
    write_partition(celeba / "celeba" / "list_eval_partition.txt", [0] * N)
    with pytest.raises(ValueError, match="split: expected some images in 'test', got none of"):
        ip.datasets.load("celeba", celeba, "test")


def test_missing(celeba):
    with pytest.raises(
        FileNotFoundError, match=r"root: found no .jpg files .*mmlab.*celeba in ro"
    ):
        ip.datasets.load("celeba", celeba / "elsewhere")
    write_partition(celeba / "celeba" / "list_eval_partition.txt", [0] * N)
    for name in NAMES[2:5]:
        (celeba / "celeba" / "img_align_celeba" / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"000003\.jpg: .*lists it and 2 more .* again"):
        ip.datasets.load("celeba", celeba)


def test_damaged_lists(celeba):
    path = celeba / "celeba" / "list_eval_partition.txt"
    write_partition(path, [0] * N)
    whole = path.read_bytes()
    cases = {
        "it has no line for 000020.jpg": whole[:-13],
        r"line 20 does not hold a file and 1 of 0, 1, 2: '000020.jpg '": whole[:-2],
        "line 1 does not hold .* '000001.jpg 7": whole.replace(b".jpg 0", b".jpg 7", 1),
        "line 21 does not hold": whole + b"\n",
        "line 1 does not hold a file": b"\xff\xfe",
    }
    for message, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message) as caught:
            ip.datasets.load("celeba", celeba)
        assert str(path) in str(caught.value)
    path.unlink()
    path = celeba / "celeba" / "list_attr_celeba.txt"
    write_attributes(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"list_attr_celeba.txt: line 22 .* 40 of -1, 1"):
        ip.datasets.load("celeba", celeba)


def test_truncated_image(celeba):
    path = celeba / "celeba" / "img_align_celeba" / "000004.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    images, _ = ip.datasets.load("celeba", celeba, "test")
    with pytest.raises(ValueError, match=r"000004.jpg: it does not decode .*truncated"):
        images[:]


def test_no_download(tmp_path):
    with pytest.raises(ValueError, match=r"download: .*Google Drive.* Fetch img_align_celeba.zip"):
        ip.datasets.load("celeba", tmp_path, download=True)
