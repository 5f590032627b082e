"""From the name of a data set to a result, with progress; used by eval.py and after training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jax
from rich.console import Console
from rich.progress import Progress

from clip_jax.data.prompts import OWN_PROMPTS, PromptFiles, class_prompts
from clip_jax.data.samples import CaptionedImages, LabelledImages
from clip_jax.data.sources.spec import open_captioned, open_labelled
from clip_jax.evaluation.results import Result, print_results, write_results
from clip_jax.evaluation.retrieval import (
    EmbeddedPairs,
    check_ranks,
    embed_pairs,
    retrieval_metrics,
)
from clip_jax.evaluation.similarity import (
    Example,
    caption_examples,
    class_examples,
    draw_similarity,
)
from clip_jax.evaluation.zeroshot import Scores, metrics_of, score_images
from clip_jax.model import Model
from clip_jax.parallel.processes import same_errors


def run_zeroshot(
    model: Model,
    name: str,
    spec: str,
    prompts: PromptFiles = OWN_PROMPTS,
    cache: bool = False,
) -> tuple[Result, list[Example]]:
    """Zero-shot classification of a data set; also some of its images with their class.

    prompts: files of class names and templates in place of the set's own; cache: keep the
    classifier on disk for the next time.
    """
    with same_errors():
        size, frames = model.config.image.image_size, model.config.frames
        data = open_labelled(spec, size, prompts, frames=frames)
    result, _ = classify(model, name, data, cache)
    return result, class_examples(data)


def run_retrieval(
    model: Model, name: str, spec: str, at: Sequence[int] = ()
) -> tuple[Result, list[Example]]:
    """Retrieval in a data set, recall at the ranks `at`; also some of its images with a caption."""
    with same_errors():
        data = open_captioned(spec, model.config.image.image_size, model.config.frames)
        check_ranks(data, at)
    result, _ = retrieve(model, name, data, at)
    return result, caption_examples(data)


def classify(
    model: Model, name: str, data: LabelledImages, cache: bool = False
) -> tuple[Result, Scores]:
    """Zero-shot classification of a data set that is open, and the scores behind the result."""
    prompts = sum(map(len, class_prompts(data.classnames, data.templates)))
    with progress(data.name, prompts + len(data.images)) as on_batch:
        scores = score_images(model, data, on_batch, cache)
    notes = {"chance": chance(data), **unread(len(data.images) - len(scores.images))}
    metrics = metrics_of(scores)
    return Result(data.name, "zeroshot_classification", metrics, name, notes=notes), scores


def retrieve(
    model: Model, name: str, data: CaptionedImages, at: Sequence[int] = ()
) -> tuple[Result, EmbeddedPairs]:
    """Retrieval in a data set that is open, and the embeddings behind the result."""
    with progress(data.name, len(data.images) + sum(map(len, data.captions))) as on_batch:
        pairs = embed_pairs(model, data, on_batch)
    notes = unread(len(data.images) - len(pairs.images))
    metrics = retrieval_metrics(pairs, at)
    return Result(data.name, "zeroshot_retrieval", metrics, name, notes=notes), pairs


def chance(data: LabelledImages) -> float:
    """What guessing gets: accuracy, or mean average precision of a multilabel set."""
    return float(data.labels.mean()) if data.multilabel else 1 / len(data.classnames)


def unread(count: int) -> dict[str, float]:
    """The note on images that could not be read, which no metric counts."""
    return {"unreadable images, left out": count} if count else {}


def evaluate_all(
    model: Model, zeroshot: Sequence[str], retrieval: Sequence[str], workdir: Path
) -> list[Result]:
    """Evaluate a trained model on a recipe's sets: a table, results/*.json and similarity.png.

    The picture is of a model that embeds texts. All processes take part; the first one writes.
    """
    if not zeroshot and not retrieval:
        return []
    done = evaluate_each(model, zeroshot, retrieval, str(workdir))
    results = [result for result, _ in done]
    if jax.process_index() == 0:
        write_results(results, workdir / "results")
        print_results(results)
    if model.config.embeds_text:
        draw_similarity(model, done[0][1], workdir / "similarity.png")
    return results


def evaluate_each(
    model: Model, zeroshot: Sequence[str], retrieval: Sequence[str], name: str
) -> list[tuple[Result, list[Example]]]:
    """The result of each set, and some of its images with a text."""
    done = [run_zeroshot(model, name, spec) for spec in zeroshot]
    return done + [run_retrieval(model, name, spec) for spec in retrieval]


@contextmanager
def progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar over `total` images and texts; yields the function that moves it on."""
    console = Console(stderr=True)
    silent = not console.is_terminal or jax.process_index() != 0
    with Progress(console=console, transient=True, disable=silent) as bar:
        task = bar.add_task(name, total=total)
        yield lambda count: bar.advance(task, count)
