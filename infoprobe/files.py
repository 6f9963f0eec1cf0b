"""Files that are written wholly or not at all, and read only if they are files."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from infoprobe import checks
from infoprobe.errors import ArgumentTypeError, ArgumentValueError

# The longest name of a file, in bytes, that the usual file systems take.
_LONGEST_NAME = 255


def as_path(path: Any, name: str) -> Path:
    """A path from a string or an object that stands for a path.

    Raises:
        TypeError: It is neither.
        ValueError: It holds a NUL character, which no file system takes.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise ArgumentTypeError(
            name,
            f"expected the path of a file, got {checks.typed(path)}. Pass a string or a "
            "pathlib.Path.",
        )
    if "\0" in os.fspath(path):
        raise ArgumentValueError(
            name, f"expected the path of a file, got {os.fspath(path)!r} with a NUL character."
        )
    return Path(path)


def read(path: Path, name: str) -> bytes:
    """The content of a file.

    Raises:
        OSError: The file is not there, or cannot be read.
        ValueError: The path is that of a pipe or a device, which may have no end.
    """
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):  # which the system refuses to read
        _require_file(path, found, name)
    return path.read_bytes()


def require_writable(path: Path, name: str) -> None:
    """Raises a ValueError unless a file of this name is there or can be put there."""
    target = _target(path, name)
    if not target.parent.is_dir() or not target.name:
        raise ArgumentValueError(
            name,
            f"expected the path of a file in a folder that exists, got {str(path)!r}. Create the "
            "folder, or pass another path.",
        )
    with contextlib.suppress(FileNotFoundError):
        _require_file(path, target.stat(), name)


def write(path: Path, data: bytes, name: str) -> None:
    """Writes a file. The file that was there stays as it was until the new one is complete.

    The new file is first written under another name in the same folder, then it takes the place
    of the old one, with the permissions of that. Where the path is a symbolic link, the file that
    the link points to is replaced, and the link stays.

    Arguments:
        path: The path of the file.
        data: The content of the file.
        name: What the caller calls the path, for error messages.

    Raises:
        OSError: The file cannot be written.
        ValueError: The folder does not exist, or there is no file but something else at this path.
    """
    require_writable(path, name)
    target = _target(path, name)
    ending = f".{secrets.token_hex(8)}.tmp"
    stem = os.fsencode(f".{target.name}")[: _LONGEST_NAME - len(ending)]
    # Decoded without the rest of a character that was cut.
    temporary = target.with_name(stem.decode(errors="ignore") + ending)
    # Fails where anything has this name, be it a link, and leaves the permissions to the umask.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _target(path: Path, name: str) -> Path:
    """The path itself, or that of the file that it links to."""
    try:
        # Unlike the path of a link, that of a file may be in a folder that does not exist.
        return Path(os.path.realpath(path)) if path.is_symlink() else path
    except (OSError, RuntimeError) as error:
        raise ArgumentValueError(name, f"expected the path of a file, got {error}.") from error


def _require_file(path: Path, found: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(found.st_mode), "a device")
        raise ArgumentValueError(
            name, f"expected the path of a file, got {str(path)!r}, which is {kind}."
        )
