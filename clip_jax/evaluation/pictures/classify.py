"""Labels of one's own for any pictures: how probable each is, as a table, a file and a sheet.

Pictures whose class is known are for zeroshot, which measures.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from clip_jax.data.prompts import PromptFiles, check_templates, class_prompts, read_labels
from clip_jax.data.samples import Templates
from clip_jax.data.sources.fields import FieldNames
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
from clip_jax.evaluation.zeroshot import build_classifier
from clip_jax.model import Model
from clip_jax.parallel.processes import same_errors

BATCH = 128


@dataclass(frozen=True)
class Labelling:
    """How probable each label is for each picture that could be read."""

    labels: list[str]
    files: list[str]
    probabilities: np.ndarray
    """float64 [files, labels]; each row's sum is 1."""
    unreadable: list[str]
    """Files that are not among them."""

    @property
    def best(self) -> list[str]:
        """The most probable label of each picture."""
        return [self.labels[number] for number in self.probabilities.argmax(axis=1)]


def run_classify(
    load: Callable[[str], Model],
    name: str,
    places: Sequence[str],
    labels: str,
    templates: str | None,
    top: int,
    output: Path | None,
    sheet: Path,
) -> None:
    """Label pictures with the model of this name, print a table, write the sheet and the output.

    places: files and folders. labels: "cat,dog", or a file of them. templates: as for zeroshot.
    top: labels shown for each picture. All processes take part; the first one reports.
    """
    with same_errors():
        names = read_labels(labels)
        prompts = PromptFiles(templates=templates).read_templates("") or [*FieldNames().templates]
        check_templates(templates or "", names, prompts)
        if top < 1:
            raise InputError(f"top must be at least 1, got {top}")
        check_files(output, sheet)
        images = open_pictures(places)
    labelling = label_pictures(load(name), images, names, prompts)
    if jax.process_index() != 0:
        return
    print_labelling(labelling, top)
    if output is not None:
        write_file(
            output, to_csv(labelling) if output.suffix.lower() == ".csv" else to_json(labelling)
        )
    draw_labels(labelling, sheet)
    report(f"{sheet}: the pictures with their labels")


def label_pictures(
    model: Model, images: FolderImages, labels: list[str], templates: Templates
) -> Labelling:
    """Softmax, at the model's temperature, of the cosines with the labels. Shows progress."""
    prompts = sum(map(len, class_prompts(labels, templates)))
    with progress("pictures", prompts + len(images)) as on_batch:
        classifier = build_classifier(model, labels, templates, on_batch)
        rows, numbers = embed_readable(model, images, min(BATCH, len(images)), on_batch)
    unread = np.setdiff1d(np.arange(len(images)), numbers)
    return Labelling(
        labels,
        [images.path(int(number)) for number in numbers],
        softmax(float(model.logit_scale) * (rows @ classifier.T)),
        [images.path(int(number)) for number in unread],
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, in float64."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def most_probable(row: np.ndarray, labels: list[str], count: int) -> list[tuple[str, float]]:
    """The labels of one picture that have the largest probabilities, and these."""
    return [(labels[number], row[number]) for number in np.argsort(-row, kind="stable")[:count]]


def print_labelling(labelling: Labelling, top: int) -> None:
    """The pictures with their most probable labels, and how many pictures each label has."""
    table = Table("picture", "label", "probability")
    for file, row in zip(labelling.files[:ROWS], labelling.probabilities, strict=False):
        labels, shares = zip(*most_probable(row, labelling.labels, top), strict=True)
        percents = "\n".join(f"{share:.1%}" for share in shares)
        table.add_row(plain(file), plain("\n".join(labels)), percents)
    Console().print(table)
    if len(labelling.files) > ROWS:
        report(f"and {len(labelling.files) - ROWS} more, which --output writes")
    counts = Counter(labelling.best).most_common()
    report(f"{len(labelling.files)} pictures: " + ", ".join(f"{n} {label}" for label, n in counts))
    report_unreadable(labelling.unreadable)


def draw_labels(labelling: Labelling, path: Path) -> None:
    """A contact sheet of the pictures with their most probable labels."""

    def told(number: int) -> list[str]:
        chosen = most_probable(labelling.probabilities[number], labelling.labels, 2)
        return [f"{label} {share:.0%}" for label, share in chosen]

    draw_files(labelling.files, told, path)


def to_json(labelling: Labelling) -> str:
    """{"pictures": [{"file", "label", "probabilities": {label: p}}], "unreadable": [file]}."""
    rows = labelling.probabilities.tolist()
    pictures = [
        {
            "file": file,
            "label": best,
            "probabilities": dict(zip(labelling.labels, row, strict=True)),
        }
        for file, best, row in zip(labelling.files, labelling.best, rows, strict=True)
    ]
    return json.dumps({"pictures": pictures, "unreadable": labelling.unreadable}, indent=1) + "\n"


def to_csv(labelling: Labelling) -> str:
    """A line a picture: file, label, and the probability of each label."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "label", *labelling.labels])
    rows = labelling.probabilities.tolist()
    for file, best, row in zip(labelling.files, labelling.best, rows, strict=True):
        writer.writerow([printable(file), best, *row])
    return text.getvalue()
