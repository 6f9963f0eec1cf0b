"""Downloads of the standard files, checked against their published checksums."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import IO, Any

from infoprobe.errors import ArgumentValueError

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"  # the mirror that torchvision uses
_CIFAR10 = "https://www.cs.toronto.edu/~kriz"

#: Where each file is published, and its MD5 checksum.
PUBLISHED = {
    name: (f"{base}/{name}", md5)
    for base, name, md5 in (
        (_MNIST, "train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        (_MNIST, "train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        (_MNIST, "t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        (_MNIST, "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        (_CIFAR10, "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    )
}

#: The number of bytes of each file.
SIZES = {
    "train-images-idx3-ubyte.gz": 9_912_422,
    "train-labels-idx1-ubyte.gz": 28_881,
    "t10k-images-idx3-ubyte.gz": 1_648_877,
    "t10k-labels-idx1-ubyte.gz": 4_542,
    "cifar-10-python.tar.gz": 170_498_071,
}


class _Bounded:
    """A file that takes no more bytes than it should have."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self.file, self.left = file, most

    def write(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            raise OSError("it is larger than the published file")
        self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def fetch(name: str, folder: Path) -> Path:
    """Downloads a published file into a folder and returns its path.

    If the download fails, nothing of the file is left in the folder.

    Raises:
        ImportError: pooch is not installed.
        OSError: The file could not be downloaded or written.
        ValueError: The downloaded file does not have the published checksum.
    """
    url, md5 = PUBLISHED[name]
    way_out = f"Fetch it by hand and put it at {folder / name}."
    try:
        pooch = _pooch()

        def download(url: str, path: str, caller: Any) -> None:
            with open(path, "wb") as file:
                pooch.HTTPDownloader()(url, _Bounded(file, SIZES[name]), caller)

        pooch.retrieve(url, known_hash=f"md5:{md5}", fname=name, path=folder, downloader=download)
    except OSError as error:
        raise OSError(f"{url}: it could not be downloaded ({error}). {way_out}") from error
    except ValueError as error:
        raise ArgumentValueError(
            url,
            f"expected the published MD5 checksum, {md5}, got another file ({error}). "
            f"Try again, or: {way_out}",
        ) from error
    return folder / name


def cache() -> Path:
    """Returns the user's folder for downloads.

    Raises:
        ImportError: pooch is not installed.
    """
    return Path(_pooch().os_cache("infoprobe"))


def _pooch() -> ModuleType:
    try:
        import pooch
    except ImportError as error:
        raise ImportError("download=True needs pooch: pip install 'infoprobe[data]'.") from error
    module: ModuleType = pooch
    return module
