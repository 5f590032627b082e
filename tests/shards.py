"""Tar shards and CLIP_benchmark data sets of a few small pictures, made when a test needs them.

Everything is written with Python's tarfile and Pillow, never with the code under test.
"""

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from clip_jax.errors import InputError

Member = tuple[str, bytes]


def solid(number: int, size: tuple[int, int] = (12, 10)) -> PIL.Image.Image:
    """A picture of one colour, from which `number_of` tells its number (below 65,536)."""
    return PIL.Image.new("RGB", size, (number % 256, number // 256, 77))


def number_of(pixels: np.ndarray) -> int:
    """The number of a `solid` picture, from its pixels [height, width, 3]."""
    red, green, _ = pixels.reshape(-1, 3).astype(int).mean(axis=0).round()
    return int(red + 256 * green)


def smooth(size: tuple[int, int], mode: str = "RGB") -> PIL.Image.Image:
    """A picture with gradients and an edge, as in photographs."""
    x, y = np.meshgrid(*(np.linspace(0, 1, length) for length in size))
    waves = [np.sin(9 * x + k) + np.cos(7 * y - k) + 0.5 * (x > 0.4 * y + 0.2) for k in range(3)]
    pixels = np.stack(waves, axis=-1) * 45 + 110
    return PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)


def encode(image: PIL.Image.Image, form: str = "png", **options: object) -> bytes:
    """A picture in a file format."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def tar_bytes(members: Iterable[Member], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of files, in this order."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return file.getvalue()


def write_tar(path: Path, members: Iterable[Member]) -> Path:
    """A tar of files on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members))
    return path


def write_pairs(path: Path, captions: Sequence[str], first: int = 0) -> Path:
    """A shard with picture `solid(first + i)` for caption i."""
    members = []
    for number, caption in enumerate(captions, first):
        members.append((f"{number:06}.png", encode(solid(number))))
        members.append((f"{number:06}.txt", caption.encode()))
    return write_tar(path, members)


def write_classification(
    root: Path,
    labels: Sequence[int | str],
    classnames: Sequence[str] = ("cat", "dog", "tree"),
    templates: Sequence[str] = ("a photo of a {c}.", "{c}"),
    shards: int = 2,
) -> Path:
    """A classification set in CLIP_benchmark's layout: picture `solid(i)` has label i."""
    members = [
        [(f"s{i:04}.png", encode(solid(i))), (f"s{i:04}.cls", str(label).encode())]
        for i, label in enumerate(labels)
    ]
    _write_split(root / "test", members, shards)
    (root / "classnames.txt").write_text("\n".join(classnames) + "\n")
    (root / "zeroshot_classification_templates.txt").write_text("\n".join(templates) + "\n")
    return root


def write_multilabel(root: Path, rows: Sequence[Sequence[int]]) -> Path:
    """A multilabel set in CLIP_benchmark's layout: picture `solid(i)` has labels rows[i]."""
    write_classification(root, [], [f"class {i}" for i in range(len(rows[0]))])
    members = []
    for i, row in enumerate(rows):
        file = io.BytesIO()
        np.save(file, np.array(row))
        members.append([(f"s{i:04}.png", encode(solid(i))), (f"s{i:04}.npy", file.getvalue())])
    _write_split(root / "test", members, 1)
    (root / "dataset_type.txt").write_text("multilabel\n")
    return root


def write_retrieval(root: Path, captions: Sequence[Sequence[str]], shards: int = 1) -> Path:
    """A retrieval set in CLIP_benchmark's layout: picture `solid(i)` has captions i."""
    members = [
        [(f"s{i:04}.png", encode(solid(i))), (f"s{i:04}.txt", "\n".join(lines).encode())]
        for i, lines in enumerate(captions)
    ]
    _write_split(root / "test", members, shards)
    (root / "dataset_type.txt").write_text("retrieval\n")
    return root


def _write_split(folder: Path, samples: list[list[Member]], shards: int) -> None:
    share = -(-len(samples) // shards)
    for shard in range(shards):
        part = samples[shard * share : (shard + 1) * share]
        write_tar(folder / f"{shard}.tar", [member for sample in part for member in sample])
    (folder / "nshards.txt").write_text(f"{shards}\n")


def extracted(paths, extension):
    """Content by name of all files with an extension, as tarfile extracts them."""
    found = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                if member.isfile() and member.name.endswith(f".{extension}"):
                    found[f"{path}:{member.name}"] = tar.extractfile(member).read()
    return found


def refusal(call, *arguments):
    """The one line with which a call refuses its input."""
    with pytest.raises(InputError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message
