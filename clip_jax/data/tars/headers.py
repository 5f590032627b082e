"""The headers of tar files: which files lie where, also in damaged tars. Extracts nothing.

Reads ustar, GNU (long names, base-256 numbers) and pax. Three times as fast as tarfile, which
makes an object of every member and stops at damage.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

BLOCK = 512
SEARCHED = 2**20
"""Bytes that are searched at once, at most, for the next header after a damaged one."""

FILES = (b"0", b"\0", b"7")
NO_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
"""Types of members: plain files; links, devices, directories and pipes, which have no content."""


class Member(NamedTuple):
    """A file in a tar."""

    name: str
    offset: int
    """Where its content begins."""
    size: int


class Header(NamedTuple):
    """One block that describes what follows it."""

    kind: bytes
    name: bytes
    size: int
    extended: bool
    """Whether the list of a sparse file's holes goes on in the next block."""


class TarWalk:
    """Iterates over the files of a tar that are all there.

    read: (offset, size) -> bytes, fewer at the end. length: of the tar in bytes.
    Afterwards `found` says whether there was any valid header, and `damaged` whether a header was
    not valid, or the tar ends before its end mark.
    """

    def __init__(self, read: Callable[[int, int], bytes], length: int):
        self._read = read
        self._length = length
        self.found = False
        self.damaged = False

    def __iter__(self) -> Iterator[Member]:
        name, size, sparse = b"", -1, False  # told ahead of a member: pax, GNU long names
        position: int | None = 0
        while position is not None:
            block = self._read(position, BLOCK) if position < self._length else b""
            if len(block) < BLOCK:
                self.damaged = True
                return
            if not any(block):
                self.found = True  # an empty tar is a tar
                return
            header = parse_header(block)
            if header is None:
                self.damaged = True
                name, size, sparse = b"", -1, False
                position = self._find_header(position + BLOCK)
                continue
            self.found = True
            start = position + BLOCK
            if header.kind in (b"L", b"x"):
                content = self._read(start, min(header.size, SEARCHED))
                if header.kind == b"L":
                    name = content.split(b"\0")[0]
                else:
                    fields = parse_pax(content)
                    name = fields.get(b"path", name)
                    size = _decimal(fields.get(b"size", b""), size)
                    sparse = any(key.startswith(b"GNU.sparse") for key in fields)
                position = start + _padded(header.size)
                continue
            if header.kind in (b"g", b"K"):
                position = start + _padded(header.size)
                continue
            extended = header.extended
            while extended:
                extended = self._read(start + 504, 1) not in (b"\0", b"")
                start += BLOCK
            stored = 0 if header.kind in NO_DATA else size if size >= 0 else header.size
            position = start + _padded(stored)
            if header.kind in FILES and not sparse:
                if start + stored > self._length:
                    self.damaged = True
                    return
                yield Member((name or header.name).decode("utf-8", "replace"), start, stored)
            name, size, sparse = b"", -1, False

    def _find_header(self, position: int) -> int | None:
        """Where the next valid header lies; None if there is none."""
        size = 16 * BLOCK  # and then more: a tar may have damage in every other block
        while position < self._length:
            area = self._read(position, size)
            place = area.find(b"ustar")
            while place >= 0:
                start = place - 257
                if start >= 0 and start % BLOCK == 0:
                    block = area[start : start + BLOCK]
                    if len(block) == BLOCK and parse_header(block) is not None:
                        return position + start
                place = area.find(b"ustar", place + 1)
            position += size
            size = min(2 * size, SEARCHED)
        return None


def parse_header(block: bytes) -> Header | None:
    """512 bytes -> a member's header; None if its checksum or its size is wrong."""
    checksum = _octal(block[148:156])
    if checksum is None:
        return None
    rest = block[:148] + block[156:]
    if checksum != sum(rest) + 256 and checksum != sum(rest) + 256 - 256 * _high_bytes(rest):
        return None
    size = _number(block[124:136])
    if size is None or size < 0:
        return None
    kind, name = block[156:157], block[:100].split(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].split(b"\0")[0] + b"/" + name
    if kind == b"\0" and name.endswith(b"/"):
        kind = b"5"
    return Header(kind, name, size, kind == b"S" and block[482] != 0)


def parse_pax(content: bytes) -> dict[bytes, bytes]:
    """The "length key=value" lines of a pax header; what is no such line ends them."""
    fields: dict[bytes, bytes] = {}
    start = 0
    while start < len(content):
        digits, space, _ = content[start : start + 20].partition(b" ")
        stop = start + _decimal(digits, 0)
        line = content[start + len(digits) + 1 : stop - 1]
        key, equals, value = line.partition(b"=")
        if not space or not equals or not start < stop <= len(content):
            break
        fields[key] = value
        start = stop
    return fields


def _high_bytes(block: bytes) -> int:
    """Bytes over 127, for checksums that some programs take over signed ones."""
    return sum(byte > 127 for byte in block)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _number(field: bytes) -> int | None:
    """Octal digits, or a number of base 256 that the first bit announces; None if neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    return _octal(field)


def _octal(field: bytes) -> int | None:
    try:
        return int(field.split(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return None


def _decimal(digits: bytes, default: int) -> int:
    return int(digits) if digits.isdigit() and len(digits) < 20 else default
