"""Video files, decoded by PyAV, which is an extra: pip install 'clip_jax[video]'."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clip_jax.data.samples import Image, Video
from clip_jax.errors import InputError

VIDEO_EXTENSIONS = ("mp4", "webm", "avi", "mov", "mkv", "m4v", "mpg", "mpeg", "ogv", "wmv", "flv")
"""Of files that are taken for videos, preferred first."""


CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,ogg,asf,flv"
"""Formats that are read, FFmpeg's names: playlists, which name other files, are not among them."""

MAX_PIXELS = 8192 * 4320
"""Of the largest frames that are read, cinema's 8K: several at once are held in RGB."""


@dataclass(frozen=True)
class VideoFile(Video):
    """A video in a file's bytes.

    It is decoded from its start to the last frame that is asked for: long ones are better cut.
    """

    content: bytes

    def frames(self, choose: Callable[[int], Sequence[int]]) -> list[Image]:
        """See Video. Frames are uint8 RGB [height, width, 3]."""
        av = import_av()
        try:
            numbers = choose(_count(av, self.content))
            with _open(av, self.content) as container:
                return _decode(container, numbers)
        except (av.FFmpegError, IndexError) as error:  # IndexError: it has sound only
            raise ValueError(f"not a readable video ({error})") from error


def import_av() -> Any:
    """PyAV. Raises InputError if it is not installed."""
    try:
        import av
    except ImportError:
        raise InputError("video files need another package; pip install av") from None
    return av


def _open(av: Any, content: bytes) -> Any:
    return av.open(io.BytesIO(content), options={"format_whitelist": CONTAINERS})


def _count(av: Any, content: bytes) -> int:
    """How many frames a file holds, by its packets: what it says of itself may be wrong."""
    with _open(av, content) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


def _decode(container: Any, numbers: Sequence[int]) -> list[Image]:
    """Frames by ascending numbers, the last one for those past it: a packet may hold no frame."""
    stream = container.streams.video[0]
    _check_size(stream.width, stream.height)
    stream.codec_context.thread_count = 1  # all cores are busy with other videos
    found: list[np.ndarray] = []
    last = None
    for number, last in enumerate(container.decode(stream)):
        _check_size(last.width, last.height)  # which may be another than the file says
        while len(found) < len(numbers) and numbers[len(found)] == number:
            found.append(last.to_ndarray(format="rgb24"))
        if len(found) == len(numbers):
            return list(found)
    if last is None:
        raise ValueError("a video without frames")
    missing = len(numbers) - len(found)
    return [*found, *[last.to_ndarray(format="rgb24")] * missing]


def _check_size(width: int, height: int) -> None:
    """Refuse frames that take too much memory."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"frames of {width} x {height} pixels")
