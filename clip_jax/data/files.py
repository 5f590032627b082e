"""Files on disk, or in a bucket or memory through fsspec: gs://, s3://, memory:// and the like.

Only what sources need: find, read a part, read from the start, tell that a file has changed, write.
"""

import errno
import glob
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from braceexpand import braceexpand

from clip_jax.errors import InputError

BLOCK = 2**22
"""Bytes of a remote file that are fetched at once where it is opened, not asked for a range."""

PAGE = 2**13
"""Likewise of a local file."""

MAX_FILES = 1_000_000
"""Files that one pattern with braces may stand for."""

MAX_PATTERN = 4096
"""Characters of a pattern; no path on disk is longer."""


def is_remote(path: str) -> bool:
    """Whether a path is an address such as gs://bucket/shards."""
    return "://" in path


def is_folder(path: str) -> bool:
    """Whether there is a directory, or a prefix of a bucket."""
    if not is_remote(path):
        return os.path.isdir(path)
    system, inner = _system(path)
    with _as_os_errors(path):
        return bool(system.isdir(inner))


def find_files(path: str, suffixes: Sequence[str]) -> list[str]:
    """A file, a glob ("shards/{00..31}.tar", "shards/*.tar") or a directory -> paths of files.

    Of a directory, its files with one of the suffixes. Raises InputError if there is none, or if
    one that is named is not there.
    """
    if is_folder(path):
        names = [name for name in _list(path) if name.endswith(tuple(suffixes))]
        if not names:
            raise InputError(f"{path}: no {' or '.join(suffixes)} in this directory")
        return [f"{path.rstrip('/')}/{name}" for name in sorted(names)]
    files = [file for pattern in _expand_braces(path) for file in _match(pattern)]
    missing = [file for file, stamp in zip(files, stamps(files), strict=True) if stamp is None]
    if missing:
        raise InputError(f"{missing[0]}: no such file or directory")
    return files


def stamps(paths: Sequence[str]) -> list[str | None]:
    """For each file a text that changes with its content: size and time; None if it is not there.

    Remote files are listed folder by folder, which is one request for very many of them.
    """
    folders = {folder_of(path) for path in paths if is_remote(path)}
    listed = {folder: _list(folder) for folder in folders}
    found = []
    for path in paths:
        if is_remote(path):
            found.append(listed[folder_of(path)].get(name_of(path)))
        else:
            found.append(_stat(path))
    return found


def folder_of(path: str) -> str:
    """The directory, or the prefix of a bucket, that a file lies in."""
    return path.rpartition("/")[0] if is_remote(path) else str(Path(path).parent)


def name_of(path: str) -> str:
    """A file's name in its folder."""
    return path.rpartition("/")[2] if is_remote(path) else Path(path).name


def open_file(path: str) -> BinaryIO:
    """A file opened for reading here and there. Raises OSError."""
    if is_remote(path):
        system, inner = _system(path)
        with _as_os_errors(path):
            return cast(BinaryIO, system.open(inner, "rb", block_size=BLOCK))
    return open(path, "rb")


def read_range(path: str, offset: int, size: int) -> bytes:
    """Part of a file; less where the file ends before. Raises OSError."""
    if is_remote(path):
        system, inner = _system(path)
        with _as_os_errors(path):
            return bytes(system.cat_file(inner, start=offset, end=offset + size)) if size else b""
    with open(path, "rb", buffering=0) as file:
        # Room is made for as much as is asked for, whatever there is.
        there = os.fstat(file.fileno()).st_size - offset
        return os.pread(file.fileno(), max(0, min(size, there)), offset)


def read_file(path: str) -> bytes:
    """All of a file. Raises OSError, also for a pipe or a device, which may have no end."""
    if is_remote(path):
        system, inner = _system(path)
        with _as_os_errors(path):
            return bytes(system.cat_file(inner))
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a file", path)
    return Path(path).read_bytes()


def write_file(path: str, content: bytes) -> None:
    """Write a file, whole or not at all. Raises OSError.

    A folder that no one may write to is left alone, also by root.
    """
    if is_remote(path):
        system, inner = _system(path)
        with _as_os_errors(path):
            system.pipe_file(inner, content)
        return
    if not os.stat(folder_of(path)).st_mode & 0o222:
        raise PermissionError(errno.EACCES, "Permission denied", path)
    part = Path(f"{path}.{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def forward_reader(path: str) -> Iterator[tuple[Callable[[int, int], bytes], int]]:
    """A function (offset, size) -> bytes, for reading here and there ahead, and the file's size.

    What it reads is fetched in blocks. Not for several threads. Raises OSError.
    """
    if is_remote(path):
        with open_file(path) as file:

            def read(offset: int, size: int) -> bytes:
                with _as_os_errors(path):
                    file.seek(offset)
                    return file.read(size)

            yield read, file.seek(0, os.SEEK_END)
    else:
        with open(path, "rb", buffering=0) as file:
            yield _window(file.fileno()), os.fstat(file.fileno()).st_size


def _window(descriptor: int) -> Callable[[int, int], bytes]:
    """pread that keeps the page it has read last."""
    page, start = b"", 0

    def read(offset: int, size: int) -> bytes:
        nonlocal page, start
        if not start <= offset <= start + len(page) - size:
            page, start = os.pread(descriptor, max(size, PAGE), offset), offset
        return page[offset - start : offset - start + size]

    return read


def _expand_braces(path: str) -> list[str]:
    """ "{00..31}.tar" -> "00.tar", "01.tar", ..., "31.tar"."""
    if len(path) > MAX_PATTERN:
        raise InputError(f"{path[:80]}...: {len(path)} characters are no path; give a directory")
    try:
        if _count_choices(path) <= MAX_FILES:
            return list(braceexpand(path))
    except (ValueError, RecursionError):
        raise InputError(f"{path}: a brace is not closed; write shards/{{00..31}}.tar") from None
    raise InputError(f"{path}: stands for more than {MAX_FILES:,} files; give a directory")


def _count_choices(path: str) -> int:
    """How many texts a pattern stands for, or more than that if braces are inside of others."""
    total, choices = 1, []
    for part in re.split("([{},])", path):
        if part == "{":
            choices.append(1)
        elif part == "," and choices:
            choices[-1] += 1
        elif part == "}" and choices:
            total *= choices.pop()
        elif choices and (bounds := re.match(r"(-?\d+)\.\.(-?\d+)", part)):
            total *= abs(int(bounds[2]) - int(bounds[1])) + 1
    return total


def _match(pattern: str) -> list[str]:
    """The files that a pattern with * or ? matches, sorted; of any other path itself."""
    if not set("*?") & set(pattern):
        return [pattern]
    if is_remote(pattern):
        system, inner = _system(pattern)
        scheme = pattern.partition("://")[0]
        with _as_os_errors(pattern):
            files = [f"{scheme}://{file.lstrip('/')}" for file in system.glob(inner)]
    else:
        files = glob.glob(pattern)
    if not files:
        raise InputError(f"{pattern}: no such files")
    return sorted(files)


def _list(folder: str) -> dict[str, str]:
    """Name -> stamp of the files of a folder."""
    if not is_remote(folder):
        stamps = {entry.name: _stat(entry.path) for entry in os.scandir(folder)}
        return {name: stamp for name, stamp in stamps.items() if stamp is not None}
    system, inner = _system(folder)
    try:
        with _as_os_errors(folder):
            entries = system.ls(inner, detail=True, refresh=True)
    except FileNotFoundError:
        return {}
    files = [entry for entry in entries if entry["type"] == "file"]
    return {entry["name"].rpartition("/")[2]: _describe(entry) for entry in files}


def _stat(path: str) -> str | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return f"{status.st_size} {status.st_mtime_ns}"


@contextmanager
def _as_os_errors(path: str) -> Iterator[None]:
    """Raise what the client of a bucket raises, which may be anything, as OSError with the path."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
    except Exception as error:
        raise OSError(f"{path}: {type(error).__name__}: {error}") from error


def _describe(entry: dict[str, Any]) -> str:
    """What a bucket says of a file, among it its checksum or its time, in short."""
    facts = sorted((name, str(value)) for name, value in entry.items())
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]


def _system(path: str) -> tuple[Any, str]:
    """The fsspec file system of an address, and the path in it."""
    with _as_os_errors(path):  # some connect at once
        try:
            import fsspec

            return fsspec.core.url_to_fs(path)
        except ImportError as error:
            raise InputError(
                f"{path}: reading it takes another package ({error}); "
                "pip install fsspec, with gcsfs for gs:// or s3fs for s3://"
            ) from None
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None
