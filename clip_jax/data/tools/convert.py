"""Any source of pairs -> ArrayRecord files: few, in random access, and without an index to make."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
from rich.console import Console
from rich.progress import Progress

from clip_jax.data.bad import BadSample, read_pair
from clip_jax.data.samples import Image, PairSource
from clip_jax.data.sources.array_record import SUFFIX, ArrayRecordWriter
from clip_jax.data.video.frames import still_of
from clip_jax.errors import InputError


def convert(source: PairSource, folder: Path, pairs_per_file: int) -> tuple[int, dict[str, int]]:
    """Write the pairs into a folder, in order, as FOLDER/00000-of-00012.array_record and so on.

    Pictures keep their bytes, not decoded; generated ones become PNG. Pairs that cannot be read or
    lack a caption are left out. -> how many were written, and how many were not, by reason.
    """
    if pairs_per_file < 1:
        raise InputError(f"pairs_per_file must be at least 1, got {pairs_per_file}")
    if folder.is_dir() and any(folder.glob(f"*{SUFFIX}")):
        raise InputError(f"{folder}: holds {SUFFIX} files already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(source), pairs_per_file)
    problems: Counter[str] = Counter()
    written, console = 0, Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("converting", total=len(source))
        for number, start in enumerate(starts):
            name = f"{number:05}-of-{len(starts):05}{SUFFIX}"
            with ArrayRecordWriter(folder / name) as writer:
                for index in range(start, min(start + pairs_per_file, len(source))):
                    problem = _copy(source, index, writer)
                    problems[problem or ""] += 1
                    written += problem is None
                    progress.advance(bar)
    del problems[""]
    return written, dict(problems)


def _copy(source: PairSource, index: int, writer: ArrayRecordWriter) -> str | None:
    """Write one pair; the reason if it cannot be."""
    try:
        pair = read_pair(source, index)
    except BadSample as sample:
        return sample.reason
    writer.write(_encode(still_of(pair.image)), pair.captions)
    return None


def _encode(image: Image) -> bytes:
    if not isinstance(image, np.ndarray):
        return image
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "png")
    return file.getvalue()
