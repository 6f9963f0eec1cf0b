import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import infoprobe as ip

N = 7


def pixels(seed, height=6, width=4):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    files = [folder / f"{i}.png" for i in range(N)]
    for i, path in enumerate(files):
        Image.fromarray(pixels(i)).save(path)
    return files


@pytest.fixture(scope="module")
def expected():
    return torch.stack([torch.from_numpy(pixels(i)).permute(2, 0, 1) for i in range(N)])


positions = st.integers(-N, N - 1)
slices = st.slices(N).filter(lambda s: s.step is None or s.step > 0)  # tensors take no others
indices = st.one_of(
    positions,
    slices,
    st.lists(positions, min_size=1),
    st.lists(positions).map(lambda i: torch.tensor(i, dtype=torch.int64)),
    st.lists(st.booleans(), min_size=N, max_size=N).map(torch.tensor),
)


@given(index=indices)
def test_indexed_like_a_tensor(paths, expected, index):
    images = ip.datasets.ImageFiles(paths)
    assert images.shape == expected.shape == (N, 3, 6, 4)
    got = images[index]
    assert got.dtype == torch.uint8
    assert torch.equal(got, expected[index])


def test_iterated_like_a_tensor(paths, expected):
    images = ip.datasets.ImageFiles(paths)
    assert len(images) == N
    assert torch.equal(torch.stack(list(images)), expected)
    assert [len(batch) for batch in images.split(3)] == [3, 3, 1]
    assert torch.equal(torch.cat(list(images.split(3))), expected)
    batches = list(torch.utils.data.DataLoader(images, batch_size=4))
    assert torch.equal(torch.cat(batches), expected)


@pytest.mark.parametrize("index", [N, [0, N], torch.tensor([-N - 1])])
def test_out_of_range(paths, index):
    with pytest.raises(IndexError, match=r"out of (range|bounds)"):
        ip.datasets.ImageFiles(paths)[index]


def test_two_axes(paths):
    with pytest.raises(IndexError, match=r"at most one axis, got shape \(1, 2\)"):
        ip.datasets.ImageFiles(paths)[torch.tensor([[0, 1]])]


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths[:2]:
        Image.fromarray(pixels(0)).save(path)
    images = ip.datasets.ImageFiles(paths)
    assert len(images[:2]) == 2
    with pytest.raises(FileNotFoundError, match=r"2\.png: it is not there"):
        images[2]


@given(
    height=st.integers(20, 60),
    width=st.integers(20, 60),
    size=st.integers(4, 20),
)
def test_resizing(tmp_path_factory, height, width, size):
    """The shorter side gets the size, and the pixels are those of an antialiased resize."""
    path = tmp_path_factory.mktemp("image") / "image.png"
    original = pixels(0, height, width)
    Image.fromarray(original).save(path)
    image = ip.datasets.ImageFiles([path], size)[0]
    short, long = sorted([height, width])
    longer = int(size * long / short)
    expected = (size, longer) if height <= width else (longer, size)
    assert image.shape == (3, *expected)
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(original).permute(2, 0, 1)[None].float(),
        expected,
        mode="bilinear",
        antialias=True,
    )
    assert (image - reference[0]).abs().max() <= 1.5  # Pillow rounds after each axis


def test_grey_images_become_rgb(tmp_path):
    Image.fromarray(pixels(0)[..., 0]).save(tmp_path / "grey.png")
    image = ip.datasets.ImageFiles([tmp_path / "grey.png"])[0]
    assert image.shape == (3, 6, 4)
    assert torch.equal(image[0], image[2])


def test_images_of_several_sizes(tmp_path):
    for name, height in {"a.png": 6, "b.png": 7}.items():
        Image.fromarray(pixels(0, height)).save(tmp_path / name)
    images = ip.datasets.ImageFiles([tmp_path / "a.png", tmp_path / "b.png"])
    with pytest.raises(ValueError, match=r"b\.png: expected 4x6 pixels, as a\.png has, got 4x7"):
        images[:]


@given(data=st.data())
def test_truncated_images(tmp_path_factory, data):
    file = io.BytesIO()
    Image.fromarray(pixels(0, 32, 32)).save(file, "JPEG")
    whole = file.getvalue()
    path = tmp_path_factory.mktemp("image") / "image"
    # The last two bytes are an end marker, which decoders can do without.
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 4))])
    with pytest.raises(ValueError, match=r"image: it does not decode .* Delete it and fetch it"):
        ip.datasets.ImageFiles([path])


def test_a_header_that_promises_too_many_pixels(tmp_path):
    path = tmp_path / "image.ppm"
    path.write_bytes(b"P6 60000 60000 255 ")
    with pytest.raises(ValueError, match=r"image\.ppm: it does not decode .*exceeds limit"):
        ip.datasets.ImageFiles([path])


def test_paths_of_any_kind(paths, expected):
    for given_paths in (map(str, paths), (path for path in paths), tuple(paths)):
        assert torch.equal(ip.datasets.ImageFiles(given_paths)[:], expected)
    for single in (paths[0], str(paths[0])):
        with pytest.raises(TypeError, match=r"paths: expected several, got .*0\.png"):
            ip.datasets.ImageFiles(single)


def test_a_file_that_cannot_be_read_is_not_called_damaged(tmp_path):
    with pytest.raises(OSError, match="irectory"):
        ip.datasets.ImageFiles([tmp_path])


def test_bad_arguments(paths):
    with pytest.raises(ValueError, match="paths: expected at least one file, got none"):
        ip.datasets.ImageFiles([])
    with pytest.raises(ValueError, match="size: expected an integer at least 1, got 0"):
        ip.datasets.ImageFiles(paths, 0)
    with pytest.raises(TypeError, match="size: expected an integer"):
        ip.datasets.ImageFiles(paths, 12.5)
    with pytest.raises(ValueError, match="split_size: expected an integer at least 1"):
        next(ip.datasets.ImageFiles(paths).split(0))
