"""No file makes the library take more memory than the data set has, or start a program."""

import http.server
import io
import pickle
import resource
import struct
import tarfile
import threading
import zipfile
import zlib

import numpy as np
import pytest

import infoprobe as ip
from infoprobe.datasets import download
from tests.datasets.test_cifar10 import batch, python_batch
from tests.datasets.test_mnist import some_digits, write_idx

MB = 1 << 20


@pytest.fixture(autouse=True)
def _bounded():
    """Fails a test in which the process takes more memory than the largest data set needs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700 * 1024


def zeros(n, compressor):
    """``n`` MiB of zeros, compressed in parts."""
    return b"".join([*(compressor.compress(bytes(MB)) for _ in range(n)), compressor.flush()])


def gzipped_zeros(n, start=b""):
    compressor = zlib.compressobj(9, wbits=31)
    return compressor.compress(start) + zeros(n, compressor)


def refuses(name, root, match):
    with pytest.raises(ValueError, match=rf"(?s)^{root}.*{match}.*Delete it and fetch it again"):
        ip.datasets.load(name, root, "test")


class TestMnist:
    @pytest.mark.parametrize("n", [60_000, 1 << 31])
    def test_a_gzip_bomb(self, tmp_path, n):
        digits = tmp_path / "t10k-images-idx3-ubyte.gz"
        write_idx(tmp_path / "t10k-labels-idx1-ubyte", some_digits()[1])
        digits.write_bytes(gzipped_zeros(60, struct.pack(">4I", 0x803, n, 28, 28)))
        refuses("mnist", tmp_path, "unpacks to more than")

    def test_a_plain_file_without_end(self, tmp_path):
        write_idx(tmp_path / "t10k-labels-idx1-ubyte", some_digits()[1])
        with (tmp_path / "t10k-images-idx3-ubyte").open("wb") as file:
            file.truncate(1 << 33)  # takes no space on the disk
        refuses("mnist", tmp_path, "no such file more than")

    def test_no_images(self, tmp_path):
        for suffix in ("", ".gz"):
            write_idx(tmp_path / f"t10k-images-idx3-ubyte{suffix}", np.empty((0, 28, 28), "u1"))
            write_idx(tmp_path / f"t10k-labels-idx1-ubyte{suffix}", np.empty(0, "u1"))
            refuses("mnist", tmp_path, "it holds no images")


def archive(path, *members):
    with tarfile.open(path, "w:gz") as file:
        for name, data, headers in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.pax_headers = headers
            file.addfile(member, io.BytesIO(data))


MAJOR = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}


class TestCifar10:
    def test_a_tar_of_zeros(self, tmp_path):
        (tmp_path / "cifar-10-python.tar.gz").write_bytes(gzipped_zeros(300))
        refuses("cifar10", tmp_path, "unpacks to more than")

    def test_a_tar_with_a_large_batch(self, tmp_path):
        data = bytes(100 * MB)
        archive(tmp_path / "cifar-10-python.tar.gz", ("test_batch", data, {}))
        refuses("cifar10", tmp_path, "it does not unpack .*is said to take 104,857,600 bytes")

    @pytest.mark.parametrize(
        "headers",
        [
            {
                "GNU.sparse.major": "1",
                "GNU.sparse.minor": "0",
                "GNU.sparse.realsize": str(1 << 33),
            },
            {"GNU.sparse.size": str(1 << 33), "GNU.sparse.map": "0,1"},
            {"GNU.sparse.map": "junk"},
            {"GNU.sparse.size": "junk", "GNU.sparse.map": "0,1,2,"},
            {**MAJOR, "GNU.sparse.realsize": "junk"},
        ],
    )
    def test_sparse_files_in_a_tar(self, tmp_path, headers):
        data = python_batch(*batch(0))
        archive(tmp_path / "cifar-10-python.tar.gz", ("test_batch", data, headers))
        refuses("cifar10", tmp_path, "")

    def test_many_files_in_a_tar(self, tmp_path):
        archive(tmp_path / "cifar-10-python.tar.gz", *((str(i), b"", {}) for i in range(200)))
        refuses("cifar10", tmp_path, "it holds more than 100 files")

    @pytest.mark.parametrize(
        "data",
        [
            b"\x80\x02]r" + struct.pack("<I", 1 << 28) + b".",  # LONG_BINPUT
            b"]p999999999\n.",  # PUT
            b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",  # BYTEARRAY8
            b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",  # BINBYTES8
            b"\x80\x02\x8b" + struct.pack("<I", 1 << 30) + b".",  # LONG4
            b"I" + b"9" * 100_000 + b"\n.",
        ],
    )
    def test_a_pickle_of_a_few_bytes(self, tmp_path, data):
        (tmp_path / "test_batch").write_bytes(data)
        refuses("cifar10", tmp_path, "it is not a CIFAR-10 batch")

    def test_a_pickle_of_lists_of_the_same_lists(self, tmp_path):
        labels = [0] * 100
        for _ in range(8):
            labels = [labels] * 100
        contents = {b"data": batch(0)[0], b"labels": labels}
        (tmp_path / "test_batch").write_bytes(pickle.dumps(contents, protocol=2))
        refuses("cifar10", tmp_path, "its labels are no list of integers")

    @pytest.mark.parametrize(
        ("method", "size"),
        [(zipfile.ZIP_DEFLATED, 160), (zipfile.ZIP_BZIP2, 2), (zipfile.ZIP_LZMA, 2)],
    )
    def test_an_npz_bomb(self, tmp_path, method, size):
        with zipfile.ZipFile(
            tmp_path / "cifar10-subset.npz", "w", method, compresslevel=1
        ) as file:
            file.writestr("test_images.npy", bytes(size * MB))
            file.writestr("test_labels.npy", b"")
        reason = (
            "is said to take" if method == zipfile.ZIP_DEFLATED else "compressed by the method"
        )
        refuses("cifar10", tmp_path, f"it holds no arrays test_images.*{reason}")

    @pytest.mark.parametrize("shape", [(1 << 40, 3, 32, 32), (-1, 3, 32, 32), (0, 3, 32, 32)])
    def test_an_npz_whose_header_says_more(self, tmp_path, shape):
        header = io.BytesIO()
        description = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, description)
        with zipfile.ZipFile(tmp_path / "cifar10-subset.npz", "w") as file:
            for name in ("test_images.npy", "test_labels.npy"):
                file.writestr(name, header.getvalue())
        refuses("cifar10", tmp_path, "it holds no")

    def test_no_images(self, tmp_path):
        images, labels = np.empty((0, 3072), "u1"), np.empty(0, "u1")
        path = tmp_path / "cifar10-subset.npz"
        np.savez(path, test_images=images.reshape(0, 3, 32, 32), test_labels=labels)
        refuses("cifar10", tmp_path, "it holds no images")
        (tmp_path / "test_batch").write_bytes(python_batch(images, labels))
        refuses("cifar10", tmp_path, "it holds no images|not a CIFAR-10 batch")


def png(width, height, data):
    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


class TestImageFiles:
    def test_a_small_file_of_many_pixels(self, tmp_path):
        path = tmp_path / "bomb.png"
        path.write_bytes(png(9000, 9000, zeros(240, zlib.compressobj(9))))
        with pytest.raises(ValueError, match=r"bomb\.png.*9000x9000 pixels, more than 33,554,432"):
            ip.datasets.ImageFiles([path])

    @pytest.mark.parametrize("size", [(12_000, 12_000), (1 << 30, 1 << 30)])
    def test_a_header_that_pillow_warns_of(self, tmp_path, size):
        path = tmp_path / "bomb.png"
        path.write_bytes(png(*size, b""))
        with pytest.raises(ValueError, match=r"bomb\.png: it does not decode"):
            ip.datasets.ImageFiles([path])

    def test_the_size_is_compared_before_pixels_are_decoded(self, tmp_path):
        from PIL import Image

        Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
        (tmp_path / "b.png").write_bytes(png(5000, 5000, b"no pixels"))
        images = ip.datasets.ImageFiles([tmp_path / "a.png", tmp_path / "b.png"])
        with pytest.raises(ValueError, match=r"expected 4x4 pixels, as a\.png has, got 5000x5000"):
            images[1]

    @pytest.mark.parametrize(
        "content",
        [
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
            b"\xc5\xd0\xd3\xc6" + bytes(100),
            b"%PDF-1.4\n",
            b"II*\0" + bytes(100),
            b"GIF89a",
            b"\xd7\xcd\xc6\x9a" + bytes(100),  # WMF
        ],
    )
    def test_no_other_program_is_started(self, tmp_path, monkeypatch, content):
        import subprocess

        def start(*arguments, **_):
            pytest.fail(f"starts {arguments}")

        monkeypatch.setattr(subprocess, "Popen", start)
        monkeypatch.setattr(subprocess, "check_call", start)
        path = tmp_path / "face.jpg"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"face\.jpg: it does not decode"):
            ip.datasets.ImageFiles([path])

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "ppm", "tiff", "webp"])
    def test_the_usual_formats(self, tmp_path, suffix):
        from PIL import Image

        path = tmp_path / f"image.{suffix}"
        Image.new("RGB", (6, 5), (250, 250, 250)).save(path)
        image = ip.datasets.ImageFiles([path])[0]
        assert image.shape == (3, 5, 6)
        assert abs(image.float() - 250).max() < 6

    def test_more_than_eight_bits_are_not_cut(self, tmp_path):
        from PIL import Image

        path = tmp_path / "deep.png"
        Image.fromarray(np.full((4, 4), 30_000, np.uint16)).save(path)
        with pytest.raises(ValueError, match="more than 8 bits"):
            ip.datasets.ImageFiles([path])


class Endless(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(1 << 16))
        except OSError:
            self.server.ended = True

    def log_message(self, *args):
        pass


def test_an_endless_download(tmp_path, monkeypatch):
    name = "t10k-labels-idx1-ubyte.gz"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/{name}"
        monkeypatch.setitem(download.PUBLISHED, name, (address, 32 * "0"))
        try:
            with pytest.raises(OSError, match="it is larger than the published file"):
                download.fetch(name, tmp_path)
        finally:
            server.shutdown()
            thread.join()
    assert list(tmp_path.iterdir()) == []
    assert download.SIZES.keys() == download.PUBLISHED.keys()


def test_the_whole_of_a_gzip_is_checked(tmp_path):
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", some_digits()[1])
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    write_idx(path, some_digits()[0])
    data = bytearray(path.read_bytes())
    data[-5] ^= 1  # of the checksum
    path.write_bytes(data)
    refuses("mnist", tmp_path, "it does not decompress")
