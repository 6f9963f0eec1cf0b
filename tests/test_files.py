"""Files are written wholly or not at all."""

import os
import stat
import threading
from pathlib import Path

import pytest

from infoprobe import files

posix = pytest.mark.skipif(os.name != "posix", reason="needs links and permissions of POSIX")


def test_a_new_file_and_another_in_its_place(tmp_path):
    path = tmp_path / "file"
    files.write(path, b"one", "path")
    files.write(path, b"two", "path")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("broken", ["fsync", "replace", "open"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, full)
    with pytest.raises(OSError, match="No space left"):
        files.write(path, b"new", "path")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    link.symlink_to(Path("folder", "target"))
    for content in (b"one", b"two"):  # the first time, the target is not there yet
        files.write(link, content, "path")
        assert link.is_symlink()
        assert target.read_bytes() == content
    assert list(target.parent.iterdir()) == [target]


@posix
def test_a_link_under_an_old_temporary_name_is_not_followed(tmp_path):
    other, path = tmp_path / "other", tmp_path / "file"
    other.write_bytes(b"precious")
    (tmp_path / "file.tmp").symlink_to(other)
    files.write(path, b"new", "path")
    assert other.read_bytes() == b"precious"
    assert path.read_bytes() == b"new"


@posix
def test_permissions(tmp_path):
    path = tmp_path / "file"
    files.write(path, b"one", "path")
    (tmp_path / "plain").write_bytes(b"")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    path.chmod(0o640)
    files.write(path, b"two", "path")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@posix
def test_what_is_no_file_is_refused_by_name(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "away").symlink_to(tmp_path / "missing" / "file")
    (tmp_path / "to_pipe").symlink_to(tmp_path / "pipe")
    for path, kind in {
        tmp_path: "a folder",
        tmp_path / "pipe": "a pipe",
        tmp_path / "to_pipe": "a pipe",
        Path("/dev/null"): "a device",
        Path(): "a folder",
        tmp_path / "missing" / "file": "Create the folder",
        tmp_path / "away": "Create the folder",
    }.items():
        with pytest.raises(ValueError, match=f"path: expected the path of a file.*{kind}"):
            files.write(path, b"new", "path")
    with pytest.raises(OSError, match="symbolic links"):
        files.write(tmp_path / "loop", b"new", "path")


@pytest.mark.parametrize("path", [3, None, b"file", ["file"], 1.5])
def test_no_path(path):
    with pytest.raises(TypeError, match="path: expected the path of a file, got"):
        files.as_path(path, "path")
    with pytest.raises(ValueError, match="NUL"):
        files.as_path("a\0b", "path")


def test_long_names(tmp_path):
    for name in ("x" * 255, "é" * 127):
        files.write(tmp_path / name, b"new", "path")
        assert (tmp_path / name).read_bytes() == b"new"


def test_many_writers_at_once(tmp_path):
    path, errors = tmp_path / "file", []

    def write(content):
        try:
            for _ in range(20):
                files.write(path, content, "path")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(bytes([i]) * 9999,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(set(path.read_bytes())) == 1
    assert list(tmp_path.iterdir()) == [path]
