import functools
import hashlib
import http.server
import io
import logging
import tarfile
import threading

import pooch
import pytest

import infoprobe as ip
from infoprobe.datasets import download
from tests.datasets.test_cifar10 import batch, python_batch
from tests.datasets.test_mnist import some_digits, write_idx


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def _no_news():
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(level)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder that a local server publishes in place of the real addresses."""
    folder = tmp_path / "served"
    folder.mkdir()
    for kind, array in zip(["images-idx3", "labels-idx1"], some_digits(), strict=True):
        write_idx(folder / f"t10k-{kind}-ubyte.gz", array)
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        data = python_batch(*batch(0))
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    handler = functools.partial(Quiet, directory=folder)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        for path in folder.iterdir():
            url = f"http://127.0.0.1:{httpd.server_port}/{path.name}"
            md5 = hashlib.md5(path.read_bytes()).hexdigest()
            monkeypatch.setitem(download.PUBLISHED, path.name, (url, md5))
        yield folder
        httpd.shutdown()
        thread.join()


def test_what_is_published():
    assert {name.split("-")[0] for name in download.PUBLISHED} == {"train", "t10k", "cifar"}
    for name, (url, md5) in download.PUBLISHED.items():
        assert url.startswith("https://")
        assert url.endswith(f"/{name}")
        assert len(bytes.fromhex(md5)) == 16


def test_mnist(server, tmp_path):
    root = tmp_path / "new" / "root"
    images, labels = ip.datasets.load("mnist", root, "test", download=True)
    assert images.numpy()[:, 0].tolist() == some_digits()[0].tolist()
    assert labels.tolist() == list(range(7))
    assert sorted(path.name for path in (root / "MNIST" / "raw").iterdir()) == [
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ]
    assert len(ip.datasets.load("mnist", root, "test")[0]) == 7


def test_cifar10(server, tmp_path):
    images, labels = ip.datasets.load("cifar10", tmp_path / "root", "test", download=True)
    assert images.flatten(1).tolist() == batch(0)[0].tolist()
    assert labels.tolist() == batch(0)[1].tolist()
    assert len(ip.datasets.load("cifar10", tmp_path / "root", "test")[0]) == 4


def test_only_what_is_missing(server, tmp_path):
    root = tmp_path / "root"
    write_idx(root / "t10k-images-idx3-ubyte", some_digits()[0])
    (server / "t10k-images-idx3-ubyte.gz").unlink()
    for _ in range(2):
        assert len(ip.datasets.load("mnist", root, "test", download=True)[0]) == 7
        (server / "t10k-labels-idx1-ubyte.gz").unlink(missing_ok=True)


def test_into_the_cache(server, tmp_path, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    assert len(ip.datasets.load("mnist", split="test", download=True)[0]) == 7
    assert (tmp_path / "cache" / "infoprobe" / "MNIST" / "raw").is_dir()


def test_another_file_than_was_published(server, tmp_path):
    path = server / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes() + b"!")
    root = tmp_path / "root"
    with pytest.raises(ValueError, match="expected the published MD5 checksum") as caught:
        ip.datasets.load("mnist", root, "test", download=True)
    url, md5 = download.PUBLISHED[path.name]
    place = root / "MNIST" / "raw" / path.name
    for part in (url, md5, f"Fetch it by hand and put it at {place}"):
        assert part in str(caught.value)
    assert [file for file in root.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("problem", ["404", "refused", "folder"])
def test_no_file_comes(server, tmp_path, monkeypatch, problem):
    name = "t10k-images-idx3-ubyte.gz"
    root = tmp_path / "root"
    if problem == "404":
        (server / name).unlink()
    elif problem == "refused":
        _, md5 = download.PUBLISHED[name]
        monkeypatch.setitem(download.PUBLISHED, name, (f"http://127.0.0.1:1/{name}", md5))
    else:
        root.touch()
    reason = {"404": "404", "refused": "refused", "folder": "Not a directory|exists"}[problem]
    with pytest.raises(OSError, match=rf"it could not be downloaded .*({reason})") as caught:
        ip.datasets.load("mnist", root, "test", download=True)
    url, _ = download.PUBLISHED[name]
    place = root / "MNIST" / "raw" / name
    assert str(caught.value).startswith(f"{url}: ")
    assert str(caught.value).endswith(f"Fetch it by hand and put it at {place}.")
    if problem == "404":
        caught.value.__cause__.response.close()  # which pooch leaves to the garbage collector
