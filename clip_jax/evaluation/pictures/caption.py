"""Captions for any pictures, by a model that writes them: as a table, a file and a sheet."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from clip_jax.data.sources.folder import FolderImages, open_pictures
from clip_jax.errors import InputError
from clip_jax.evaluation.embed import embed_readable
from clip_jax.evaluation.pictures.show import (
    ROWS,
    check_files,
    draw_files,
    plain,
    printable,
    report,
    report_unreadable,
)
from clip_jax.evaluation.results import write_file
from clip_jax.evaluation.run import progress
from clip_jax.model import Model, check_captions
from clip_jax.models.generate import Decoding, check_decoding
from clip_jax.parallel.processes import same_errors

BATCH = 64


@dataclass(frozen=True)
class Captioned:
    """A picture and what a model writes under it."""

    file: str
    caption: str


def run_caption(
    load: Callable[[str], Model],
    name: str,
    places: Sequence[str],
    decoding: Decoding,
    seed: int,
    output: Path | None,
    sheet: Path,
) -> None:
    """Caption pictures by the model of this name, print a table, write the sheet and the output.

    places: files and folders. seed: of method nucleus. All processes take part; the first reports.
    """
    with same_errors():
        try:
            check_decoding(decoding)
        except ValueError as error:
            raise InputError(str(error)) from None
        if seed < 0:
            raise InputError(f"seed must not be negative, got {seed}")
        check_files(output, sheet)
        images = open_pictures(places)
    model = load(name)
    with same_errors():
        check_captions(model.config)
    captions, unreadable = caption_pictures(model, images, decoding, seed)
    if jax.process_index() != 0:
        return
    print_captions(captions)
    report_unreadable(unreadable)
    if output is not None:
        as_csv = output.suffix.lower() == ".csv"
        write_file(output, to_csv(captions) if as_csv else to_json(captions, unreadable))
    draw_files([one.file for one in captions], lambda number: [captions[number].caption], sheet)
    report(f"{sheet}: the pictures with their captions")


def caption_pictures(
    model: Model, images: FolderImages, decoding: Decoding, seed: int
) -> tuple[list[Captioned], list[str]]:
    """Captions of the pictures that can be read, and the files that cannot. Shows progress."""
    vocabulary, seeds = model.vocabulary, batch_seeds(seed)
    with progress("pictures", len(images)) as on_batch:
        rows, numbers = embed_readable(
            model,
            images,
            min(BATCH, len(images)),
            on_batch,
            lambda pixels: model.write(pixels, decoding, next(seeds)),
        )
    captions = [
        Captioned(images.path(int(number)), vocabulary.decode(row))
        for number, row in zip(numbers, rows, strict=True)
    ]
    unread = np.setdiff1d(np.arange(len(images)), numbers)
    return captions, [images.path(int(number)) for number in unread]


def batch_seeds(seed: int) -> Iterator[int]:
    """Another seed for each batch."""
    return (int(np.random.SeedSequence([seed, batch]).generate_state(1)[0]) for batch in count())


def print_captions(captions: Sequence[Captioned]) -> None:
    """A table of the pictures with their captions."""
    table = Table("picture", "caption")
    for one in captions[:ROWS]:
        table.add_row(plain(one.file), plain(one.caption))
    Console().print(table)
    if len(captions) > ROWS:
        report(f"and {len(captions) - ROWS} more, which --output writes")


def to_json(captions: Sequence[Captioned], unreadable: Sequence[str]) -> str:
    """{"pictures": [{"file", "caption"}], "unreadable": [file]}."""
    pictures = [asdict(one) for one in captions]
    return json.dumps({"pictures": pictures, "unreadable": unreadable}, indent=1) + "\n"


def to_csv(captions: Sequence[Captioned]) -> str:
    """A line a picture: file and caption."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "caption"])
    writer.writerows([printable(one.file), one.caption] for one in captions)
    return text.getvalue()
