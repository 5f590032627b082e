"""Videos in tar shards: what TarIndex is for single images.

A video is one member, `0001.mp4`, or several numbered pictures, `0001.000.jpg`, `0001.001.jpg` and
so on, of which only those that are asked for are read; a single `0001.jpg` is a video of one frame.
Headers are read anew each time that a set is opened.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from clip_jax.data.files import read_range
from clip_jax.data.samples import IMAGE_EXTENSIONS, Video
from clip_jax.data.strings import Strings
from clip_jax.data.tars.index import THREADS, refuse_damage
from clip_jax.data.tars.shard import DUPLICATE, PLACE, walk_members
from clip_jax.data.video.files import VIDEO_EXTENSIONS, VideoFile, import_av
from clip_jax.data.video.frames import Frames

FRAME = np.dtype([("offset", "<i8"), ("size", "<i8"), ("file", "?")])
"""Where a frame lies in its shard, or a whole video file."""
MAX_DIGITS = 9
"""Of a frame's number."""


class TarClips:
    """Videos of tar shards, each with another field; random access, picklable.

    extensions: those that the field `name` may have, preferred first. What is damaged or lacks one
    of the two is left out and counted in `problems`; if nothing is left, or at the first damaged
    shard if `strict`, InputError is raised.
    """

    def __init__(
        self, shards: Sequence[str], name: str, extensions: Sequence[str], strict: bool = False
    ):
        self.shards, self.fields = list(shards), {name: tuple(extensions)}
        with ThreadPoolExecutor(THREADS) as pool:
            parts = list(pool.map(lambda path: index_clips(path, name, extensions), self.shards))
        self.problems: dict[str, int] = dict(sum((Counter(p.problems) for p in parts), Counter()))
        for path, part in zip(self.shards, parts, strict=True):
            if strict or not any(len(part.keys) for part in parts):
                refuse_damage(path, part.problems)
        self._ends = np.cumsum([len(part.keys) for part in parts])
        self._keys = Strings.join([part.keys for part in parts])
        self._texts = np.concatenate([part.texts for part in parts])
        self._frames = np.concatenate([part.frames for part in parts])
        self._bounds = np.cumsum([0, *itertools.chain(*(part.counts for part in parts))])
        if self._frames["file"].any():
            import_av()

    def __len__(self) -> int:
        return len(self._texts)

    def video(self, index: int) -> Video:
        """The video of one sample; of pictures, nothing is read yet. Raises OSError."""
        shard = self._shard(index)
        frames = self._frames[self._bounds[index] : self._bounds[index + 1]]

        def read(number: int) -> bytes:
            return read_range(shard, int(frames[number]["offset"]), int(frames[number]["size"]))

        return VideoFile(read(0)) if frames[0]["file"] else Frames(len(frames), read)

    def extension(self, index: int, name: str) -> str:
        """Which of the field's extensions sample `index` has."""
        return self.fields[name][self._texts[index]["extension"]]

    def read(self, index: int, name: str) -> bytes:
        """The bytes of the field of one sample. Raises OSError."""
        place = self._texts[index]
        return read_range(self._shard(index), int(place["offset"]), int(place["size"]))

    def describe(self, index: int) -> str:
        """Where a sample is, for messages: "shards/0001.tar:000123"."""
        return f"{self._shard(index)}:{self._keys[index]}"

    def digest(self) -> str:
        """A hash of the samples' names, and of where their fields and frames lie."""
        tables = (self._ends, self._bounds, self._texts, self._frames)
        content = b"".join(np.ascontiguousarray(table).tobytes() for table in tables)
        return hashlib.sha256(self._keys.digest().encode() + content).hexdigest()

    def _shard(self, index: int) -> str:
        return self.shards[int(np.searchsorted(self._ends, index, side="right"))]


@dataclass(frozen=True)
class ShardClips:
    """The complete samples of one shard."""

    keys: Strings
    texts: np.ndarray
    """PLACE [samples]: the field beside the video."""
    frames: np.ndarray
    """FRAME, those of all samples one after the other."""
    counts: list[int]
    """How many of them each sample has."""
    problems: dict[str, int]
    """What was left out, by reason."""


@dataclass
class _Sample:
    """Members found so far: offset and size of each."""

    texts: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By the rank of the extension."""
    files: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Video files, by the rank of the extension."""
    frames: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Numbered pictures."""
    stills: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Pictures without a number, by the rank of the extension."""

    def video(self) -> list[tuple[int, int, bool]]:
        """FRAME of a video file, or else of all pictures; [] if there is none."""
        if self.files:
            return [(*self.files[min(self.files)], True)]
        if self.frames:
            return [(*self.frames[number], False) for number in sorted(self.frames)]
        return [(*self.stills[min(self.stills)], False)] if self.stills else []


def index_clips(path: str, name: str, extensions: Sequence[str]) -> ShardClips:
    """Read the headers of one shard."""
    samples: dict[str, _Sample] = {}
    problems: Counter[str] = Counter()
    for key, extension, offset, size in walk_members(path, problems):
        number, _, kind = extension.rpartition(".")
        if extension in extensions:
            rank, slot = extensions.index(extension), "texts"
        elif extension in VIDEO_EXTENSIONS:
            rank, slot = VIDEO_EXTENSIONS.index(extension), "files"
        elif extension in IMAGE_EXTENSIONS:
            rank, slot = IMAGE_EXTENSIONS.index(extension), "stills"
        elif kind in IMAGE_EXTENSIONS and number.isdecimal() and len(number) <= MAX_DIGITS:
            rank, slot = int(number), "frames"
        else:
            continue
        known = getattr(samples.setdefault(key, _Sample()), slot)
        problems[DUPLICATE] += rank in known
        known.setdefault(rank, (offset, size))
    keys, texts, frames, counts = [], [], [], []
    for key, sample in samples.items():
        video = sample.video()
        if not video or not sample.texts:
            problems[f"no {name}" if video else "no video"] += 1
            continue
        rank = min(sample.texts)
        keys.append(key)
        texts.append((*sample.texts[rank], rank))
        frames += video
        counts.append(len(video))
    return ShardClips(
        Strings.of(keys),
        np.array(texts, PLACE),
        np.array(frames, FRAME),
        counts,
        {reason: count for reason, count in problems.items() if count},
    )
