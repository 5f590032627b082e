"""Samples that cannot be used: why not, and how many of them are too many.

Which sample takes their place is the pipeline's business.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import PIL.Image

from clip_jax.data.images import UNREADABLE
from clip_jax.data.samples import Pair, PairSource, Video
from clip_jax.errors import InputError

REASONS = ("unreadable", "no_image", "broken_image", "oversized_image", "no_caption")
"""The source fails; nothing where the image should be; no picture, or a damaged one; one of too
many pixels to decode; no caption but white space."""

MIN_BAD = 100
"""Bad samples below which their share stops no run."""


class BadSample(Exception):
    """A sample that training is to do without. Its reason is one of REASONS."""

    def __init__(self, reason: str, key: str, detail: object = ""):
        super().__init__(reason, key, str(detail))  # all three, for pickling
        self.reason = reason
        self.key = key
        self.detail = str(detail)

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}" + (f" ({self.detail})" if self.detail else "")


def read_pair(source: PairSource, index: int) -> Pair:
    """A pair with an image, not decoded yet, and a caption. Raises BadSample."""
    try:
        pair = source[index]
    except (OSError, ValueError) as error:
        raise BadSample("unreadable", f"sample {index}", error) from error
    if not any(caption.strip() for caption in pair.captions):
        raise BadSample("no_caption", pair.key)
    if not isinstance(pair.image, Video) and len(pair.image) == 0:
        raise BadSample("no_image", pair.key)
    return pair


@contextmanager
def decoding(key: str) -> Iterator[None]:
    """For the decoding of a pair's image: what that raises becomes BadSample."""
    try:
        yield
    except PIL.Image.DecompressionBombError as error:
        raise BadSample("oversized_image", key, error) from error
    except UNREADABLE as error:
        raise BadSample("broken_image", key, error) from error


def describe_reasons(counts: Mapping[str, int]) -> str:
    """{"no_caption": 3, ...} -> "7 broken_image, 3 no_caption"."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {reason}" for reason, count in ordered if count)


def check_share(
    counts: Mapping[str, int], used: int, max_share: float, examples: Sequence[BadSample]
) -> None:
    """Raise InputError if more than this share of the samples that were drawn so far is bad.

    counts: bad samples by reason. used: those that were good.
    """
    bad = sum(counts.values())
    if bad < MIN_BAD or bad <= max_share * (bad + used):
        return
    shown = "; ".join(map(str, examples))
    raise InputError(
        f"{bad} of {bad + used} samples are bad ({describe_reasons(counts)}), more than "
        f"--data.max-bad {max_share} allows" + (f"; for example {shown}" if shown else "")
    )
