"""From the name of a data set to fitted classifiers' results, with progress; used by eval.py."""

from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console
from rich.table import Table

from clip_jax.data.samples import LabelledImages
from clip_jax.data.sources.spec import open_labelled
from clip_jax.evaluation.plots import new_figure, save_figure
from clip_jax.evaluation.probes.features import Features, Space, extract, project
from clip_jax.evaluation.probes.few_shot import SHOTS, draw_few_shot, evaluate_few_shot
from clip_jax.evaluation.probes.probe import Search, evaluate_probe
from clip_jax.evaluation.results import Result
from clip_jax.evaluation.run import progress
from clip_jax.evaluation.zeroshot import build_classifier, metrics_of, score_images
from clip_jax.model import Model
from clip_jax.parallel.processes import same_errors


def run_probe(
    model: Model,
    name: str,
    spec: str,
    space: Space = "features",
    seed: int = 0,
    cache: bool = True,
    picture: Path | None = None,
) -> Result:
    """A linear probe on the train split of a data set, tested on its test split.

    picture: where the search's accuracies are drawn.
    """
    test_data, train, test = both_splits(model, spec, cache)
    if space == "embeddings":
        train, test = project(model, train), project(model, test)
    metrics, search = evaluate_probe(train, test, len(test_data.classnames), seed)
    if jax.process_index() == 0:
        print_search(search)
        if picture is not None:
            draw_search(search, f"{name} on {test_data.name}", picture)
    metrics["C"] = search.best
    return Result(test_data.name, "linear_probe", metrics, model=name)


def run_few_shot(
    model: Model,
    name: str,
    spec: str,
    space: Space = "features",
    shots: Sequence[int] = SHOTS,
    seeds: int = 3,
    cache: bool = True,
    picture: Path | None = None,
) -> Result:
    """Few-shot probes on a data set beside zero-shot classification of the same images."""
    data, train, test = both_splits(model, spec, cache)
    zero_shot = zero_shot_accuracy(model, data, test, cache)
    if space == "embeddings":
        train, test = project(model, train), project(model, test)
    results = evaluate_few_shot(train, test, shots, seeds)
    metrics = {"zeroshot_acc1": zero_shot}
    for result in results:
        metrics[f"acc1_{result.shots}_shot"] = result.mean
        metrics[f"acc1_{result.shots}_shot_std"] = result.deviation
    if jax.process_index() == 0 and picture is not None:
        draw_few_shot(results, zero_shot, f"{name} on {data.name}", picture)
    return Result(data.name, "few_shot", metrics, model=name)


def zero_shot_accuracy(
    model: Model, data: LabelledImages, features: Features, cache: bool
) -> float:
    """acc1 of the classifier that the prompts give, on features before the projection.

    A model that predicts prompts instead reads the images again.
    """
    if not model.config.embeds_text:
        return metrics_of(score_images(model, data))["acc1"]
    classifier = build_classifier(model, data.classnames, data.templates, cache=cache)
    nearest = (project(model, features).rows @ classifier.T).argmax(axis=1)
    return float((nearest == features.labels).mean())


def print_search(search: Search) -> None:
    """A table of the strengths that were tried."""
    table = Table("C", "validation acc1")
    for value, accuracy in zip(search.strengths, search.accuracies, strict=True):
        mark = " *" if value == search.best else ""
        table.add_row(f"{value:.3g}{mark}", f"{accuracy:.4f}")
    Console().print(table)


def draw_search(search: Search, title: str, path: Path) -> None:
    """A PNG: validation accuracy over strengths, and the one that was chosen."""
    figure, axes = new_figure(title, "C", "validation accuracy")
    axes.semilogx(search.strengths, search.accuracies, marker="o")
    axes.axvline(search.best, color="tab:orange", linestyle="--", label=f"C = {search.best:.3g}")
    axes.legend()
    save_figure(figure, path)


def both_splits(model: Model, spec: str, cache: bool) -> tuple[LabelledImages, Features, Features]:
    """A data set's test split, and the features of its train and test splits."""
    size, frames = model.config.image.image_size, model.config.frames
    with same_errors():
        train = open_labelled(spec, size, split="train", frames=frames)
        test = open_labelled(spec, size, frames=frames)
    features = []
    for split, data in (("train", train), ("test", test)):
        with progress(f"{data.name} {split}", len(data.images)) as on_batch:
            features.append(extract(model, data, on_batch, cache))
    return test, features[0], features[1]
