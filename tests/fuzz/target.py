"""What a target of fuzzing is: one parser of ours, with files that are fine.

A target makes its surroundings in a folder of its own and gives whole files, written by the
format's own writer, and a function that reads such a file. The function returns or raises one of
REFUSALS; anything else is a finding, and so are a crash, a hang, and memory beyond the limit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clip_jax.data.bad import BadSample
from clip_jax.errors import InputError

REFUSALS = (InputError, BadSample)
"""What bad input becomes: one line, or one sample that is counted and replaced."""

Parser = tuple[list[bytes], Callable[[bytes], object]]
"""Whole files, and the function that reads one."""


@dataclass(frozen=True)
class Target:
    """One parser."""

    make: Callable[[Path], Parser]
    share: float = 1
    """Inputs in a campaign, as a multiple of what most targets get."""
    megabytes: int = 512
    """Memory that reading a small file may take, beyond what the process has."""


def target(share: float = 1, megabytes: int = 512) -> Callable[[Callable[[Path], Parser]], Target]:
    """Make a Target of a function."""
    return lambda make: Target(make, share, megabytes)


def reads_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A function that reads content through a file."""

    def run(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return run
