"""Many texts in little memory: their bytes in one array, which also makes them quick to pickle."""

import hashlib
from array import array
from collections.abc import Iterable

import numpy as np


class Strings:
    """A sequence of texts; takes their UTF-8 and 8 bytes each.

    content: uint8, all texts one after the other. ends: int64 [texts], where each ends in it.
    Raises ValueError if the two do not fit.
    """

    def __init__(self, content: np.ndarray, ends: np.ndarray):
        if (content.dtype, ends.dtype, content.ndim, ends.ndim) != (np.uint8, np.int64, 1, 1):
            raise ValueError("not bytes and where texts end in them")
        bounds = np.concatenate([[0], ends])
        if (np.diff(bounds) < 0).any() or bounds[-1] != len(content):
            raise ValueError("the texts' ends do not fit their content")
        self.content, self.ends = content, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Strings":
        """From texts, which may be file names with bytes that are not UTF-8."""
        content, ends = bytearray(), array("q")
        for text in texts:
            content += text.encode("utf-8", errors="surrogateescape")
            ends.append(len(content))
        return cls(np.frombuffer(bytes(content), np.uint8), np.array(ends, np.int64))

    @classmethod
    def join(cls, parts: list["Strings"]) -> "Strings":
        """One sequence of several."""
        if len(parts) == 1:
            return parts[0]
        shifts = np.cumsum([0, *(len(part.content) for part in parts)])
        ends = [part.ends + shift for part, shift in zip(parts, shifts, strict=False)]
        content = [part.content for part in parts]
        return cls(
            np.concatenate([np.empty(0, np.uint8), *content]),
            np.concatenate([np.empty(0, np.int64), *ends]),
        )

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self.ends):
            raise IndexError(index)
        start = self.ends[index - 1] if index else 0
        return self.content[start : self.ends[index]].tobytes().decode("utf-8", "surrogateescape")

    def digest(self) -> str:
        """A hash of all texts."""
        return hashlib.sha256(self.ends.tobytes() + self.content.tobytes()).hexdigest()

    def part(self, start: int, stop: int) -> "Strings":
        """Texts number `start` to `stop`."""
        first = int(self.ends[start - 1]) if start else 0
        last = int(self.ends[stop - 1]) if stop else 0
        return Strings(self.content[first:last], self.ends[start:stop] - first)
