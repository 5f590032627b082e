"""Detection sets -> pairs: boxes in COCO's format become "a photo of two dogs and a ball".

Roboflow's COCO exports are folders with such a file, _annotations.coco.json, beside the pictures.
"""

import io
import math
import os
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clip_jax.data.sources.folder import TOKENIZATION
from clip_jax.data.text.english import counted, listed, plural
from clip_jax.errors import InputError
from clip_jax.textfiles import read_json

DAMAGES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What a file that is not in COCO's format raises."""
ROBOFLOW = "_annotations.coco.json"
ACROSS = ("left", "middle", "right")
DOWN = ("top", "middle", "bottom")
LONGEST_SLUG = 60
"""Letters of a caption in the name of a folder."""


@dataclass(frozen=True)
class Box:
    """One thing in a picture."""

    name: str
    centre: tuple[float, float]
    """As shares of the picture's width and height."""
    area: float
    """As a share of the picture's."""
    crowd: bool
    """Whether it is a group that was not counted."""


@dataclass(frozen=True)
class Boxes:
    """A picture and what is in it."""

    file: Path
    boxes: list[Box]


@dataclass(frozen=True)
class Wording:
    """How boxes become a sentence."""

    template: str = "a photo of {c}"
    """The sentence, with {c} for the things."""
    counts: bool = True
    """Say how many; otherwise only whether there is one or more."""
    positions: bool = False
    """Say roughly where: "a dog on the left"."""
    plurals: Mapping[str, str] = field(default_factory=dict)
    """Category -> its plural, for names that are not English or formed otherwise."""

    def __post_init__(self) -> None:
        if "{c}" not in self.template:
            raise InputError(f"template {self.template!r} has no {{c}} for the things")


def read_detections(path: Path, images: Path | None = None) -> list[Boxes]:
    """The pictures of a COCO file, or of a folder with Roboflow's, in the file's order.

    images: where they are, by default beside the file. Categories without boxes do not matter, nor
    does Roboflow's first one, which stands for all others.
    """
    file = path / ROBOFLOW if path.is_dir() else path
    values = read_json(file)
    try:
        names = {each["id"]: _readable(each["name"]) for each in values["categories"]}
        found = {
            each["id"]: (Boxes(_inside(images or file.parent, each["file_name"]), []), each)
            for each in values["images"]
        }
        for each in values["annotations"]:
            boxes, image = found[each["image_id"]]
            boxes.boxes.append(_box(each, names[each["category_id"]], image))
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{file}: not in COCO's format, or incomplete: no {error}") from None
    except DAMAGES as error:
        raise InputError(f"{file}: not in COCO's format ({error})") from None
    missing = next((own.file for own, _ in found.values() if not os.path.isfile(own.file)), None)
    if missing is not None:
        raise InputError(f"{missing}: no such picture, but {file} names it; see --images")
    return [own for own, _ in found.values()]


def caption(boxes: Sequence[Box], wording: Wording) -> str:
    """A sentence about some things, at least one; those that cover most of the picture first."""
    groups: dict[tuple[str, str], list[Box]] = {}
    for box in boxes:
        where = place(box.centre) if wording.positions else ""
        groups.setdefault((box.name, where), []).append(box)
    largest = sorted(groups.items(), key=lambda item: -sum(box.area for box in item[1]))
    things = [f"{quantity(name, own, wording)} {where}".strip() for (name, where), own in largest]
    return wording.template.replace("{c}", listed(things))


def quantity(name: str, boxes: Sequence[Box], wording: Wording) -> str:
    """How many of a category: "two dogs"; "several dogs" with a crowd; "dogs" without counts."""
    more = wording.plurals.get(name)
    crowd = any(box.crowd for box in boxes)
    if len(boxes) == 1 and not crowd:
        return counted(name, 1)
    if crowd and wording.counts:
        return f"several {more or plural(name)}"
    return counted(name, len(boxes), more) if wording.counts else more or plural(name)


def place(centre: tuple[float, float]) -> str:
    """Which ninth of the picture: "on the left", "at the top", "at the top left"."""
    across, down = (int(min(2.0, max(0.0, 3 * share))) for share in centre)
    if down == 1:
        return "in the middle" if across == 1 else f"on the {ACROSS[across]}"
    return f"at the {DOWN[down]}" if across == 1 else f"at the {DOWN[down]} {ACROSS[across]}"


def captions_of(
    pictures: Sequence[Boxes], wording: Wording, empty: str | None = None
) -> list[tuple[Path, str]]:
    """Files with their captions. empty: the caption of pictures without boxes, else left out.

    Raises InputError if no picture is left.
    """
    pairs = [
        (own.file, caption(own.boxes, wording) if own.boxes else empty or "")
        for own in pictures
        if own.boxes or empty
    ]
    if not pairs:
        raise InputError(f"none of {len(pictures)} pictures has a box")
    return pairs


def write_shards(pairs: Sequence[tuple[Path, str]], out: Path, pairs_per_shard: int) -> None:
    """OUT/00000.tar and so on: 000000000.jpg with 000000000.txt, ..."""
    if pairs_per_shard < 1:
        raise InputError(f"pairs_per_shard must be at least 1, got {pairs_per_shard}")
    _make_empty(out)
    for shard, start in enumerate(range(0, len(pairs), pairs_per_shard)):
        with tarfile.open(out / f"{shard:05}.tar", "w") as tar:
            for number in range(start, min(start + pairs_per_shard, len(pairs))):
                file, text = pairs[number]
                _add(tar, f"{number:09}{file.suffix.lower()}", file.read_bytes())
                _add(tar, f"{number:09}.txt", text.encode())


def write_folders(pairs: Sequence[tuple[Path, str]], out: Path) -> None:
    """A folder for each caption, the most frequent one first, and OUT/_tokenization.txt."""
    _make_empty(out)
    counts = Counter(text for _, text in pairs)
    texts = [text for text, _ in counts.most_common()]
    folders = {
        text: out / f"{number:0{len(str(len(texts)))}}-{_slug(text)}"
        for number, text in enumerate(texts)
    }
    for folder in folders.values():
        folder.mkdir()
    for number, (file, text) in enumerate(pairs):
        shutil.copyfile(file, folders[text] / f"{number:09}{file.suffix.lower()}")
    (out / TOKENIZATION).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def read_plurals(path: Path) -> dict[str, str]:
    """A JSON object: category -> plural."""
    values = read_json(path)
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise InputError(f"{path}: must be an object of texts, {{category: plural}}")
    return {_readable(name): value for name, value in values.items()}


def _box(annotation: Mapping[str, Any], name: str, image: Mapping[str, Any]) -> Box:
    left, top, width, height = map(float, annotation["bbox"])
    across, down = float(image["width"]), float(image["height"])
    centre = ((left + width / 2) / across, (top + height / 2) / down)
    area = width * height / (across * down)
    if not name or not all(map(math.isfinite, (*centre, area))):
        raise ValueError(f"a box of {name!r} at {annotation['bbox']}")
    return Box(name, centre, area, bool(annotation.get("iscrowd")))


def _inside(folder: Path, name: str) -> Path:
    """A file in a folder or below it: what it names becomes training data."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"{name}: outside of {folder}, where the pictures are; see --images")
    return folder / name


def _readable(name: str) -> str:
    """A category as words: "traffic_light" -> "traffic light"."""
    return " ".join(name.replace("_", " ").split())


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text).strip("-")[:LONGEST_SLUG]


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))


def _make_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already; choose another folder")
    out.mkdir(parents=True, exist_ok=True)
