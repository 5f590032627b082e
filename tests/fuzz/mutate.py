"""Damage to files, as a function of a random number generator: what fuzzing is made of."""

import random
import re
from collections.abc import Sequence

NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)
"""What lengths and counts are overwritten with."""

TOKENS = (b"\0", b"\xff\xfe", b"{", b"[[", b'"', b"\\ud800", b"&#", b"%s", b"../", b"-1", b"1e999")
"""What texts are spoiled with."""

SCALAR = re.compile(rb'"[^"]*"|-?[0-9.]+|true|false|null')
VALUES = (b"null", b"true", b"[]", b"{}", b'""', b'"7"', b"0", b"-1", b"0.5", b"1e999", b"9" * 30)
"""What values of JSON become."""

GROWTH = 1 << 17
"""Bytes by which an input may be longer than the longest seed."""


def mutated(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the seeds with one to four kinds of damage; now and then random bytes instead."""
    if rng.random() < 0.02:
        return rng.randbytes(rng.randrange(200))
    content = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 1, 2, 4))):
        rng.choice(DAMAGES)(content, rng)
        if rng.random() < 0.05:
            splice(content, rng.choice(seeds), rng)
    return bytes(content[: max(map(len, seeds)) + GROWTH])


def place(content: bytearray, rng: random.Random) -> int:
    """Somewhere in it, more often near the ends, where headers are."""
    length = len(content)
    near = min(length, 64)
    ends = (rng.randint(0, near), length - rng.randint(0, near))
    return rng.choice(ends) if rng.random() < 0.4 else rng.randint(0, length)


def flip(content: bytearray, rng: random.Random) -> None:
    """Other bits here and there."""
    for _ in range(rng.choice((1, 1, 1, 8)) if content else 0):
        content[min(place(content, rng), len(content) - 1)] ^= 1 << rng.randrange(8)


def overwrite(content: bytearray, rng: random.Random) -> None:
    """A byte of any value."""
    if content:
        content[min(place(content, rng), len(content) - 1)] = rng.randrange(256)


def inflate(content: bytearray, rng: random.Random) -> None:
    """A number of 1 to 8 bytes in place of what is there: a length that cannot be."""
    size, start = rng.choice((1, 2, 4, 8)), place(content, rng)
    number = rng.choice(NUMBERS) % 256**size
    content[start : start + size] = number.to_bytes(size, rng.choice(("little", "big")))


def digits(content: bytearray, rng: random.Random) -> None:
    """A number in place of one in the text."""
    places = [at for at, byte in enumerate(content[:4096]) if 48 <= byte < 58]
    if places:
        at = rng.choice(places)
        number = rng.choice(
            (b"0", b"-1", b"9" * 9, b"9" * 20, b"9" * 5000, b"1e300", b"77777777777")
        )
        content[at : at + rng.choice((1, len(number)))] = number


def value(content: bytearray, rng: random.Random) -> None:
    """Another value in JSON, or another name."""
    found = list(SCALAR.finditer(content, 0, 4096))
    if found:
        start, stop = rng.choice(found).span()
        content[start:stop] = rng.choice(VALUES)


def truncate(content: bytearray, rng: random.Random) -> None:
    """The end is missing."""
    del content[place(content, rng) :]


def remove(content: bytearray, rng: random.Random) -> None:
    """Something is missing in the middle."""
    start = place(content, rng)
    del content[start : start + rng.choice((1, 4, 32, 512))]


def repeat(content: bytearray, rng: random.Random) -> None:
    """Something is there many times."""
    start = place(content, rng)
    part = content[start : start + rng.choice((1, 2, 16, 256))]
    content[start:start] = (part * rng.choice((1, 3, 100, 3000)))[:GROWTH]


def insert(content: bytearray, rng: random.Random) -> None:
    """Something is there that should not be."""
    start = place(content, rng)
    content[start:start] = rng.choice((rng.choice(TOKENS), rng.randbytes(rng.choice((1, 4, 64)))))


def splice(content: bytearray, other: bytes, rng: random.Random) -> None:
    """The end of another file, from somewhere on."""
    start = place(content, rng)
    content[start:] = other[place(bytearray(other), rng) :]


DAMAGES = (
    flip,
    flip,
    flip,
    overwrite,
    overwrite,
    inflate,
    inflate,
    digits,
    value,
    value,
    truncate,
    remove,
    repeat,
    insert,
)
