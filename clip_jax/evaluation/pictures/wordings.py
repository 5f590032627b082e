"""Which wording of the prompts tells the classes of a labelled set best, overall and by class.

Each template alone, all of them together as zero-shot classification takes them, and the set's own
prompts where these were replaced. The images are embedded once.
"""

import csv
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from clip_jax.data.prompts import OWN_PROMPTS, PromptFiles, class_prompts
from clip_jax.data.samples import LabelledImages
from clip_jax.data.sources.spec import open_labelled
from clip_jax.errors import InputError
from clip_jax.evaluation.embed import embed_readable, embed_texts
from clip_jax.evaluation.likelihood import score_classes
from clip_jax.evaluation.pictures.show import ROWS, plain, report
from clip_jax.evaluation.results import Result, check_output, write_file
from clip_jax.evaluation.run import chance, progress, unread
from clip_jax.evaluation.similarity import shorten
from clip_jax.evaluation.zeroshot import Scores, metrics_of
from clip_jax.model import Model
from clip_jax.parallel.processes import same_errors

TOGETHER, OWN = "all together", "the set's own"


@dataclass(frozen=True)
class Wording:
    """Prompts for every class."""

    name: str
    prompts: list[list[str]]
    """Of each class, one or more."""


@dataclass(frozen=True)
class Comparison:
    """How often each wording tells the images of each class right."""

    classnames: list[str]
    images: np.ndarray
    """int [classes]: those that could be read."""
    wordings: list[str]
    metrics: list[dict[str, float]]
    """Those of zero-shot classification, by wording."""
    accuracy: np.ndarray
    """float64 [wordings, classes]; NaN of a class without images."""

    @property
    def best(self) -> int:
        """The wording with the largest acc1, the first of equal ones."""
        return int(np.argmax([metrics["acc1"] for metrics in self.metrics]))


def run_by_class(
    model: Model, name: str, spec: str, prompts: PromptFiles, output: Path | None
) -> Result:
    """Zero-shot classification, by all prompts together; tables by wording and by class.

    output: path of the result's file, beside which a .csv and a .png are written. All processes
    take part; the first one reports.
    """
    with same_errors():
        check_output(output)
        size, frames = model.config.image.image_size, model.config.frames
        data = open_labelled(spec, size, prompts, frames=frames)
        if data.multilabel:
            raise InputError(f"{spec}: accuracy by class takes images with one label each")
        wordings = wordings_of(data)
        together = len(wordings) - 1
        if prompts.templates is not None and prompts.classnames is None:
            own = open_labelled(spec, size, OWN_PROMPTS, frames=frames)
            wordings.append(Wording(OWN, class_prompts(own.classnames, own.templates)))
    comparison = compare(model, data, wordings)
    if jax.process_index() == 0:
        print_comparison(comparison)
        if output is not None:
            write_file(output.with_suffix(".csv"), to_csv(comparison))
            draw_comparison(comparison, data.name, output.with_suffix(".png"))
    notes = {"chance": chance(data), **unread(len(data.images) - int(comparison.images.sum()))}
    metrics = comparison.metrics[together]
    return Result(data.name, "zeroshot_classification", metrics, name, notes=notes)


def wordings_of(data: LabelledImages) -> list[Wording]:
    """Each template alone, then all together; prompts as they stand, by their number."""
    prompts = class_prompts(data.classnames, data.templates)
    counts = {len(own) for own in prompts}
    if counts == {1}:
        return [Wording(_name(data, 0), prompts)]
    if len(counts) > 1:  # which prompt of one class goes with which of another is not known
        return [Wording(TOGETHER, prompts)]
    alone = [
        Wording(_name(data, number), [[own[number]] for own in prompts])
        for number in range(len(prompts[0]))
    ]
    return [*alone, Wording(TOGETHER, prompts)]


def _name(data: LabelledImages, number: int) -> str:
    """What the prompts with this number are called."""
    if isinstance(data.templates, dict):
        return f"prompt {number + 1} of each class"
    return data.templates[number]


def compare(model: Model, data: LabelledImages, wordings: Sequence[Wording]) -> Comparison:
    """Accuracy of each wording. Shows progress."""
    values, numbers = score_wordings(model, data, wordings)
    labels = data.labels[numbers]
    metrics, accuracy = [], []
    for own in values:
        scores = Scores(own, labels, numbers)
        metrics.append(metrics_of(scores))
        accuracy.append(accuracy_by_class(scores, len(data.classnames)))
    images = np.bincount(labels, minlength=len(data.classnames))
    names = [wording.name for wording in wordings]
    return Comparison(data.classnames, images, names, metrics, np.stack(accuracy))


def score_wordings(
    model: Model, data: LabelledImages, wordings: Sequence[Wording]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Scores of images by each wording, [readable, classes]; and which images could be read.

    Each image and each text is read once.
    """
    prompts = [own for wording in wordings for own in wording.prompts]
    texts = list(dict.fromkeys(text for own in prompts for text in own))
    with progress(data.name, len(texts) + len(data.images)) as on_batch:
        if not model.config.embeds_text:
            encode = score_classes(model, prompts)
            on_batch(len(texts))
            rows, numbers = embed_readable(model, data.images, on_batch=on_batch, encode=encode)
            return np.split(rows, len(wordings), axis=1), numbers
        embedded = embed_texts(model, texts, on_batch=on_batch)
        rows, numbers = embed_readable(model, data.images, on_batch=on_batch)
    row_of = {text: row for text, row in zip(texts, embedded, strict=True)}
    means = np.stack([np.mean([row_of[text] for text in own], axis=0) for own in prompts])
    classifier = means / np.linalg.norm(means, axis=1, keepdims=True)
    return np.split(rows @ classifier.T, len(wordings), axis=1), numbers


def accuracy_by_class(scores: Scores, classes: int) -> np.ndarray:
    """Share of each class's images that score highest for it, float64; NaN without images."""
    right = scores.values.argmax(axis=1) == scores.labels
    hits = np.bincount(scores.labels, weights=right, minlength=classes)
    images = np.bincount(scores.labels, minlength=classes)
    return np.divide(hits, images, out=np.full(classes, np.nan), where=images > 0)


def print_comparison(comparison: Comparison) -> None:
    """A table of the wordings, the best one marked, and one of the classes, the worst first."""
    table = Table("wording", "acc1", "mean per class")
    for number, (name, metrics) in enumerate(
        zip(comparison.wordings, comparison.metrics, strict=True)
    ):
        marked = " best" * (number == comparison.best and len(comparison.wordings) > 1)
        recall = metrics["mean_per_class_recall"]
        table.add_row(plain(name), f"{metrics['acc1']:.4f}{marked}", f"{recall:.4f}")
    Console().print(table)
    accuracy = comparison.accuracy[comparison.best]
    table = Table("class", "images", "accuracy", "better with")
    shown = [number for number in np.argsort(accuracy, kind="stable") if comparison.images[number]]
    for number in shown[:ROWS]:
        column = comparison.accuracy[:, number]
        better = f"{comparison.wordings[column.argmax()]}: {column.max():.4f}"
        table.add_row(
            plain(comparison.classnames[number]),
            str(comparison.images[number]),
            f"{accuracy[number]:.4f}",
            plain(better if column.max() > accuracy[number] else ""),
        )
    Console().print(table)
    if len(shown) > ROWS:
        report(f"and {len(shown) - ROWS} classes that are told better, which --output writes")


def to_csv(comparison: Comparison) -> str:
    """A line a class: its name, images, and accuracy by each wording; the last line is overall."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "images", *comparison.wordings])
    for number, name in enumerate(comparison.classnames):
        row = comparison.accuracy[:, number].tolist()
        writer.writerow([name, comparison.images[number], *("" if v != v else v for v in row)])
    overall = [metrics["acc1"] for metrics in comparison.metrics]
    writer.writerow(["", comparison.images.sum(), *overall])
    return text.getvalue()


def draw_comparison(comparison: Comparison, name: str, path: Path) -> None:
    """A PNG: overall and the classes down, wordings across, accuracy as number and shade.

    Of many classes those that the best wording tells worst.
    """
    from matplotlib.figure import Figure

    shown = np.argsort(comparison.accuracy[comparison.best], kind="stable")
    shown = np.sort([number for number in shown if comparison.images[number]][:ROWS])
    overall = [metrics["acc1"] for metrics in comparison.metrics]
    values = np.vstack([overall, comparison.accuracy[:, shown].T])
    down, across = values.shape
    figure = Figure(figsize=(2.5 + 1.1 * across, 1.5 + 0.35 * down), layout="constrained")
    axes = figure.subplots()
    axes.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(down, across):
        value, best, least = values[row, column], values[row].max(), values[row].min()
        shade = "white" if value > 0.6 else "black"
        weight = "bold" if value == best > least else "normal"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=shade, weight=weight)
    labels = ["all images", *(comparison.classnames[number] for number in shown)]
    axes.set_yticks(range(down), [shorten(label, 30) for label in labels])
    titles = [textwrap.fill(shorten(wording), 14) for wording in comparison.wordings]
    axes.set_xticks(range(across), titles, size=8)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.axhline(0.5, color="white", linewidth=4)
    axes.set_title(f"{name}: accuracy by wording of the prompts", parse_math=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
