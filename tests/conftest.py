import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

SHARED = Path(__file__).parents[2] / "shared" / "data"


def _shared(path: str) -> Path:
    file = SHARED / path
    if not file.exists():
        pytest.skip(f"needs the data set file shared/data/{path} beside the checkout")
    return file


@pytest.fixture(scope="session")
def mnist_root():
    """The folder that holds MNIST/raw."""
    _shared("MNIST/raw/t10k-images-idx3-ubyte.gz")
    return SHARED


@pytest.fixture(scope="session")
def cifar10_root():
    """The folder that holds cifar10-subset.npz."""
    _shared("cifar10-subset.npz")
    return SHARED


@pytest.fixture(scope="session")
def mnist_test_images():
    """The first 1,000 MNIST test images, read without the library: uint8, (1000, 1, 28, 28)."""
    data = gzip.decompress(_shared("MNIST/raw/t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(data, np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return torch.tensor(images[:1000])


@pytest.fixture(scope="session")
def cifar10_test_images():
    """The first 1,000 CIFAR-10 test images, read without the library: uint8, (1000, 3, 32, 32)."""
    with np.load(_shared("cifar10-subset.npz")) as arrays:
        return torch.tensor(arrays["test_images"][:1000])


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return request.param
