"""Near-duplicates: what is found of planted ones, and how long the search takes at scale.

    python benchmarks/overlap.py planted --data FOLDER [--pictures 400] [--skip 0]
    python benchmarks/overlap.py scale [--queries 100000] [--gallery 1000000]

`planted` takes pictures from the tars below a folder, changes some in eight ways and looks for them
among all. Pictures of which the collection has variants itself (the same drawing recoloured,
mirrored, framed or renumbered) are left out first, by the correlation of their light at 32 x 32
pixels; a second precision is that among all pictures. --skip 400 takes the next 400: the first ones
are those on which the threshold was chosen.

`scale` makes signatures of noise with the spectrum of photographs, the last thousand queries from
pictures of the gallery, cropped and mirrored, with other light, colour and noise. Both print
figures, and write them as JSON to --output.
"""

import argparse
import dataclasses
import io
import itertools
import json
import tarfile
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
from turns import machine

from clip_jax.data.samples import IMAGE_EXTENSIONS
from clip_jax.evaluation.analyses.overlap.duplicates import (
    THRESHOLD,
    Duplicates,
    find_duplicates,
)
from clip_jax.evaluation.analyses.overlap.parts import resampling
from clip_jax.evaluation.analyses.overlap.signature import (
    COLOUR_SIDE,
    SIDE,
    SIGNATURE,
    make_signature,
    shows_nothing,
)

Picture = PIL.Image.Image
SMALLEST = 32
"""Pixels of the shorter side of a picture that takes part."""
VARIANTS = 0.7
"""Correlation of the light of two pictures of which one is left out as a variant of the other."""
CUTS = [*itertools.product((0, 0.1), repeat=4), (0.2, 0.2, 0.2, 0.2)]
"""Shares that a variant may lack at its left, top, right and bottom."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("planted", "scale"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--skip", type=int, default=0, help="pictures before those")
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "planted":
        results = planted(arguments.data, arguments.pictures, arguments.skip)
    else:
        results = scale(arguments.queries, arguments.gallery)
    print(json.dumps(results, indent=1))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


# --- planted duplicates


def resize(picture: Picture, rng: np.random.Generator) -> Picture:
    return stretched(picture, *rng.uniform(0.4, 0.7, 1).repeat(2))


def stretch(picture: Picture, rng: np.random.Generator) -> Picture:
    across = float(rng.choice([rng.uniform(0.75, 0.9), rng.uniform(1.1, 1.3)]))
    return stretched(picture, across, 1)


def stretched(picture: Picture, across: float, down: float) -> Picture:
    size = (max(8, round(picture.width * across)), max(8, round(picture.height * down)))
    return picture.resize(size, PIL.Image.Resampling.BICUBIC)


def recompress(picture: Picture, rng: np.random.Generator) -> Picture:
    file = io.BytesIO()
    picture.save(file, "jpeg", quality=25)
    return PIL.Image.open(file).convert("RGB")


def crop(picture: Picture, rng: np.random.Generator) -> Picture:
    """Up to a fifth of the width and of the height is lost."""
    size = np.array(picture.size)
    lost, place = rng.uniform(0, 0.2, 2) * size, rng.uniform(0, 1, 2)
    start = (lost * place).round()
    return picture.crop((*start.astype(int), *(size - lost + start).round().astype(int)))


def flip(picture: Picture, rng: np.random.Generator) -> Picture:
    return PIL.ImageOps.mirror(picture)


def colours(picture: Picture, rng: np.random.Generator) -> Picture:
    """All hues up to 25 degrees off, more or less colour."""
    hue, *others = picture.convert("HSV").split()
    shift = int(rng.uniform(-18, 18))
    turned = PIL.Image.merge("HSV", (hue.point(lambda value: (value + shift) % 256), *others))
    return PIL.ImageEnhance.Color(turned.convert("RGB")).enhance(rng.uniform(0.6, 1.4))


def light(picture: Picture, rng: np.random.Generator) -> Picture:
    """Other gamma, brightness and contrast."""
    gamma = rng.uniform(0.7, 1.4)
    picture = picture.point(lambda value: int(255 * (value / 255) ** gamma))
    picture = PIL.ImageEnhance.Brightness(picture).enhance(rng.uniform(0.8, 1.2))
    return PIL.ImageEnhance.Contrast(picture).enhance(rng.uniform(0.8, 1.2))


def border(picture: Picture, rng: np.random.Generator) -> Picture:
    """Of black, white or any colour, on each side up to a fifth as wide as the picture."""
    widths = (rng.uniform(0.03, 0.2, 4) * np.array(picture.size * 2)).astype(int) + 1
    colour = [(0, 0, 0), (255, 255, 255), tuple(rng.integers(0, 256, 3).tolist())][rng.integers(3)]
    return PIL.ImageOps.expand(picture, tuple(widths.tolist()), colour)


CHANGES = (resize, stretch, recompress, crop, flip, colours, light, border)


def planted(folder: Path, count: int, skip: int) -> dict:
    """Recall of each change, and precision over all pairs found."""
    contents = read_pictures(folder)
    rng, chosen = np.random.default_rng(0), without_variants(contents)
    with ProcessPoolExecutor(2) as pool:
        every = np.stack(list(pool.map(make_signature, contents)))
        shown = rng.permutation(np.array(chosen)[~shows_nothing(every[chosen])])
        seen = shown[skip : skip + count]
        changed = list(pool.map(change, seen.tolist(), [contents[i] for i in seen]))
    queries, source = np.concatenate(changed), seen.repeat(len(CHANGES))
    among_all = find_duplicates(queries, every)
    found = find_duplicates(queries, every[chosen])
    found = dataclasses.replace(found, gallery=np.array(chosen)[found.gallery])
    counted = found.score >= THRESHOLD
    query, true = found.query[counted], found.gallery[counted] == source[found.query[counted]]
    kind = np.arange(len(queries)) % len(CHANGES)
    return {
        "pictures": len(contents),
        "without_variants": len(chosen),
        "planted": len(queries),
        "threshold": THRESHOLD,
        "recall": round(float(true.sum() / len(queries)), 4),
        "precision": round(float(true.mean()), 4),
        "precision_with_variants": at_least(THRESHOLD, among_all, source)["precision"],
        "curve": [at_least(score, found, source) for score in (0.6, 0.65, 0.7, 0.75, 0.8, 0.85)],
        "recall_of": {
            make.__name__: round(float(true[kind[query] == n].sum() / len(seen)), 4)
            for n, make in enumerate(CHANGES)
        },
    }


def at_least(score: float, found: Duplicates, source: np.ndarray) -> dict[str, float]:
    """Recall and precision at another threshold."""
    counted = found.score >= score
    true = found.gallery[counted] == source[found.query[counted]]
    recall, precision = float(true.sum() / len(source)), float(true.mean())
    return {"threshold": score, "recall": round(recall, 4), "precision": round(precision, 4)}


def change(seed: int, content: bytes) -> np.ndarray:
    """The signatures of a picture changed in each way, written as PNG in between."""
    rng, picture = np.random.default_rng(seed), on_white(content)
    made = []
    for make in CHANGES:
        file = io.BytesIO()
        make(picture, rng).save(file, "png")
        made.append(make_signature(file.getvalue()))
    return np.stack(made)


def read_pictures(folder: Path) -> list[bytes]:
    """The different pictures of some size in the tars below a folder."""
    contents: dict[bytes, None] = {}
    for path in sorted(folder.rglob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(IMAGE_EXTENSIONS) and (file := tar.extractfile(member)):
                    content = file.read()
                    if min(PIL.Image.open(io.BytesIO(content)).size) >= SMALLEST:
                        contents[content] = None
    return list(contents)


def without_variants(contents: list[bytes]) -> list[int]:
    """Numbers of pictures that none before them resembles.

    Resembling: the light of the one, whole or within its margins, correlates with that of the
    other, whole or cut at some sides, perhaps mirrored or with light and dark exchanged.
    """
    pictures = [on_white(content) for content in contents]
    inner = [content_of(picture) for picture in pictures]
    wholes = [unit(plain(pictures)), unit(plain(inner))]
    alike = np.zeros((len(contents), len(contents)), np.float32)
    for cut in CUTS:
        for own in (pictures, inner):
            rows = plain([cut_sides(picture, cut) for picture in own])
            for other in (unit(rows), unit(rows[:, :, ::-1])):
                for whole in wholes:
                    np.maximum(alike, np.abs(whole @ other.T), out=alike)
    alike = np.maximum(alike, alike.T)
    kept: list[int] = []
    for number in range(len(contents)):
        if not kept or alike[number, kept].max() < VARIANTS:
            kept.append(number)
    return kept


def plain(pictures: list[Picture]) -> np.ndarray:
    """float32 [n, 32, 32]: the light of pictures."""
    size, box = (32, 32), PIL.Image.Resampling.BOX
    return np.stack([np.asarray(p.convert("L").resize(size, box), np.float32) for p in pictures])


def unit(light: np.ndarray) -> np.ndarray:
    rows = light.reshape(len(light), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)


def cut_sides(picture: Picture, cut: tuple[float, ...]) -> Picture:
    """Without shares of it at the left, top, right and bottom."""
    left, top, right, bottom = np.array(cut) * (picture.size * 2)
    right, bottom = picture.width - right, picture.height - bottom
    return picture.crop((int(left), int(top), int(right), int(bottom)))


def content_of(picture: Picture) -> Picture:
    """Without the white around it."""
    light = picture.convert("L").point(lambda value: 255 * (value < 250))
    return picture.crop(light.getbbox() or (0, 0, *picture.size))


def on_white(content: bytes) -> Picture:
    picture = PIL.Image.open(io.BytesIO(content)).convert("RGBA")
    ground = PIL.Image.new("RGBA", picture.size, "white")
    return PIL.Image.alpha_composite(ground, picture).convert("RGB")


# --- scale

PLANTED = 1000
FIELD = 40
"""Pixels along each side of the noise that signatures are made of."""
BLOCK = 10_000


def scale(queries: int, gallery: int) -> dict:
    """Seconds of the search, and how many of the planted queries it finds."""
    with tempfile.TemporaryDirectory() as folder:
        rows = np.memmap(Path(folder) / "gallery", SIGNATURE, "w+", shape=(gallery,))
        for start in range(0, gallery, BLOCK):
            part = rows[start : start + BLOCK]
            part[...] = signatures_of(noise(start, len(part)), np.array([[0, 1]]))
        asked = np.zeros(queries, SIGNATURE)
        for start in range(0, queries, BLOCK):
            part = asked[start : start + BLOCK]
            part[...] = signatures_of(noise(gallery + start, len(part)), np.array([[0, 1]]))
        asked[-PLANTED:] = plant(noise(0, BLOCK)[:PLANTED])
        begin = time.perf_counter()
        found = find_duplicates(asked, rows)
        seconds = time.perf_counter() - begin
    counted = found.score >= THRESHOLD
    true = found.gallery == found.query - (queries - PLANTED)
    return {
        **machine(),
        "queries": queries,
        "gallery": gallery,
        "bytes_of_a_signature": SIGNATURE.itemsize,
        "seconds": round(seconds, 1),
        "planted_found": round(float((counted & true).sum() / PLANTED), 4),
        "others_found": int((counted & ~true).sum()),
    }


def noise(seed: int, count: int) -> np.ndarray:
    """float32 [count, 3, FIELD, FIELD] from 0 to 1: amplitudes fall as 1 / frequency."""
    rng = np.random.default_rng(seed)
    across, down = np.fft.rfftfreq(FIELD), np.fft.fftfreq(FIELD)
    fall = 1 / np.maximum(np.hypot(across, down[:, None]), 1 / FIELD)
    made = rng.standard_normal((count, 3, FIELD, FIELD), np.float32)
    field = np.fft.irfft2(np.fft.rfft2(made) * fall, (FIELD, FIELD))
    return (0.5 + 0.2 * field / field.std()).clip(0, 1).astype(np.float32)


def signatures_of(field: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Signatures of noise seen through a part of its sides; the channels are Y, Cb and Cr."""
    cut = {side: resampling(part, FIELD, side)[0] for side in (SIDE, COLOUR_SIDE)}
    made = np.zeros(len(field), SIGNATURE)
    grey = cut[SIDE] @ field[:, 0] @ cut[SIDE].T
    made["grey"] = (255 * grey)[:, None].round()
    colour = cut[COLOUR_SIDE] @ field[:, 1:] @ cut[COLOUR_SIDE].T
    made["colour"] = (255 * colour.transpose(0, 2, 3, 1))[:, None].round()
    return made


def plant(field: np.ndarray) -> np.ndarray:
    """Signatures of cropped, mirrored, noisy pictures with other light and colour."""
    rng = np.random.default_rng(0)
    made = []
    for number, own in enumerate(field):
        lost, place = rng.uniform(0, 0.2), rng.uniform()
        own = own[:, :, ::-1] if number % 2 else own
        own = 0.5 + rng.uniform(0.7, 1.2) * (own - 0.5) + rng.normal(0, 0.02, own.shape)
        part = np.array([[lost * place, 1 - lost * (1 - place)]])
        made.append(signatures_of(own.clip(0, 1)[None], part))
    return np.concatenate(made)


if __name__ == "__main__":
    main()
