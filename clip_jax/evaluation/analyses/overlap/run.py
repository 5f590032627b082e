"""From training data and evaluation sets to their overlap; used by eval.py."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clip_jax.data.samples import PairSource
from clip_jax.data.sources.clip_benchmark import dataset_type, open_files
from clip_jax.data.sources.spec import open_labelled, open_pairs
from clip_jax.data.video.frames import still_of
from clip_jax.errors import InputError
from clip_jax.evaluation.analyses.overlap.duplicates import (
    SHOWN_FROM,
    Duplicates,
    find_duplicates,
)
from clip_jax.evaluation.analyses.overlap.page import ShownPair, ShownSet, render_pairs
from clip_jax.evaluation.analyses.overlap.plot import draw_overlap
from clip_jax.evaluation.analyses.overlap.signature_file import (
    MADE,
    identity_of,
    read_signatures,
)
from clip_jax.evaluation.analyses.overlap.statistics import Split, split
from clip_jax.evaluation.page import thumbnail
from clip_jax.evaluation.results import write_file
from clip_jax.evaluation.run import classify, progress
from clip_jax.evaluation.suite.run import Found, data_identity, find_sets
from clip_jax.model import Model

GENERATED_SIZE = 64
"""Pixels of pictures that a source draws itself."""
SHOWN = 24
"""Pairs of a set on the page, on each side of the threshold."""


@dataclass(frozen=True)
class Overlap:
    """What a set has in common with the training data."""

    name: str
    images: int
    """That can be read."""
    pairs: Duplicates
    overlapping: np.ndarray
    """bool, one for each image, readable or not."""
    split: Split | None
    """Accuracies, of a single-label set and if a model is given."""


def run_overlap(
    load: Callable[[str], Model],
    train: str,
    data: Sequence[str],
    model: str | None,
    threshold: float,
    output: Path,
) -> list[Overlap]:
    """Near-duplicates between training data and each set at or below the directories `data`.

    With a model also what they do to its zero-shot accuracy. Prints a table; writes overlap.json,
    overlap.png (with a model) and overlap.html into `output`. In one process.
    """
    if jax.process_count() > 1:
        raise InputError("overlap runs in one process; start it on one host")
    if not SHOWN_FROM <= threshold <= 1:
        raise InputError(f"threshold must be from {SHOWN_FROM:g} to 1, got {threshold:g}")
    sets, source = find_sets(data), open_pairs(train, GENERATED_SIZE)
    with progress("signatures of the training data", len(source)) as on_block:
        gallery = read_signatures(
            identity_of(train), len(source), lambda i: still_of(source[i].image), on_block
        )
    loaded = None if model is None else load(model)
    found = [_overlap(one, gallery, threshold, loaded, model or "") for one in sets]
    splits = {one.name: one.split for one in found if one.split is not None}
    table = {one.name: facts(one, len(splits)) for one in found}
    print_overlap(table)
    write_file(output / "overlap.json", json.dumps(_values(found, len(splits)), indent=1) + "\n")
    shown = [
        _show(own, table[one.name], one, source, threshold)
        for own, one in zip(sets, found, strict=True)
    ]
    write_file(output / "overlap.html", render_pairs(train, threshold, shown))
    if splits:
        draw_overlap(splits, output / "overlap.png")
    return found


def facts(overlap: Overlap, comparisons: int) -> dict[str, str]:
    """What the table says of a set."""
    count = int(overlap.overlapping.sum())
    values = {
        "images": str(overlap.images),
        "overlap": str(count),
        "share": f"{count / overlap.images:.2%}",
    }
    own = overlap.split
    if own is None:
        return values | dict.fromkeys(
            ("All", "Overlap", "Clean", "All - Clean", "p", "interval of Overlap"), "-"
        )
    p, interval = own.p_value(), own.interval(comparisons)
    return values | {
        "All": _percent(own.all),
        "Overlap": _percent(own.overlap),
        "Clean": _percent(own.clean),
        "All - Clean": _percent(own.difference, "+"),
        "p": "-" if p is None else f"{p:.3g}" + " *" * own.significant(comparisons),
        "interval of Overlap": "-"
        if interval is None
        else f"{_percent(interval[0])} to {_percent(interval[1])}",
    }


def print_overlap(table: dict[str, dict[str, str]]) -> None:
    """A row for each figure of each data set: side by side they do not fit on a screen."""
    shown = Table("data", "", "value")
    for name, values in table.items():
        for number, (about, value) in enumerate(values.items()):
            shown.add_row("" if number else escape(name), about, value)
        shown.add_section()
    Console().print(shown)


def _overlap(
    found: Found, gallery: np.ndarray, threshold: float, model: Model | None, name: str
) -> Overlap:
    images = open_files(found.folder)
    identity = repr((str(found.folder), data_identity(found.folder)))
    with progress(f"signatures of {found.name}", len(images)) as on_block:
        queries = read_signatures(identity, len(images), lambda i: images[i], on_block)
    if not (queries["state"] == MADE).any():
        raise InputError(f"{found.folder}: none of its {len(images)} images can be read")
    with progress(f"{found.name}: looking for duplicates", len(gallery)) as on_chunk:
        pairs = find_duplicates(queries["signature"], gallery["signature"], on_chunk)
    overlapping = np.zeros(len(images), bool)
    overlapping[pairs.query[pairs.score >= threshold]] = True
    own = None
    if model is not None and dataset_type(found.folder) == "classification":
        data = open_labelled(f"wds:{found.folder}", model.config.image.image_size)
        _, scores = classify(model, name, replace(data, name=found.name), cache=True)
        right = scores.values.argmax(axis=1) == scores.labels
        own = split(right, overlapping[scores.images])
    return Overlap(found.name, int((queries["state"] == MADE).sum()), pairs, overlapping, own)


def _values(found: Sequence[Overlap], comparisons: int) -> list[dict[str, object]]:
    """What is written as JSON, a set each: shares of 1, and the overlapping images' numbers."""
    values: list[dict[str, object]] = []
    for one in found:
        about: dict[str, object] = {
            "dataset": one.name,
            "images": one.images,
            "overlapping": np.flatnonzero(one.overlapping).tolist(),
        }
        if one.split is not None:
            about |= {
                "all": one.split.all,
                "overlap": one.split.overlap,
                "clean": one.split.clean,
                "difference": one.split.difference,
                "p_value": one.split.p_value(),
                "significant": one.split.significant(comparisons),
                "interval": one.split.interval(comparisons),
            }
        values.append(about)
    return values


def _show(
    found: Found, values: dict[str, str], overlap: Overlap, source: PairSource, threshold: float
) -> ShownSet:
    """The best pair of each image, those that lie nearest to the threshold."""
    images, pairs = open_files(found.folder), overlap.pairs
    best = np.sort(np.unique(pairs.query, return_index=True)[1])  # pairs are the best first
    counted = pairs.score[best] >= threshold
    above, below = best[counted][::-1][:SHOWN], best[~counted][:SHOWN]

    def shown(pair: int) -> ShownPair:
        number = int(pairs.query[pair])
        other = source[int(pairs.gallery[pair])]
        pictures = thumbnail(images[number]), thumbnail(still_of(other.image))
        return ShownPair(float(pairs.score[pair]), number, other.key, pictures)

    return ShownSet(found.name, values, [*map(shown, above)], [*map(shown, below)])


def _percent(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{100 * value:{sign}.2f}%"
