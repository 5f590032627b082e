"""From the name of a data set to a result, with progress; used by eval.py and after training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jax
from rich.console import Console
from rich.progress import Progress

from clip_jax.data.sources import open_captioned, open_labelled
from clip_jax.evaluation.results import Result, print_results, write_results
from clip_jax.evaluation.retrieval import evaluate_retrieval
from clip_jax.evaluation.similarity import (
    Example,
    caption_examples,
    class_examples,
    draw_similarity,
)
from clip_jax.evaluation.zeroshot import evaluate_zeroshot
from clip_jax.model import Model
from clip_jax.parallel.processes import same_errors


def run_zeroshot(model: Model, name: str, spec: str) -> tuple[Result, list[Example]]:
    """Zero-shot classification of a data set; also some of its images with their class."""
    with same_errors():
        data = open_labelled(spec, model.config.image.image_size)
    with _progress(data.name, len(data.images)) as on_batch:
        metrics = evaluate_zeroshot(model, data, on_batch)
    notes = {"chance": 1 / len(data.classnames)}
    result = Result(data.name, "zeroshot_classification", metrics, model=name, notes=notes)
    return result, class_examples(data)


def run_retrieval(model: Model, name: str, spec: str) -> tuple[Result, list[Example]]:
    """Retrieval in a data set; also some of its images with a caption."""
    with same_errors():
        data = open_captioned(spec, model.config.image.image_size)
    with _progress(data.name, len(data.images)) as on_batch:
        metrics = evaluate_retrieval(model, data, on_batch)
    return Result(data.name, "zeroshot_retrieval", metrics, model=name), caption_examples(data)


def evaluate_all(
    model: Model, zeroshot: Sequence[str], retrieval: Sequence[str], workdir: Path
) -> list[Result]:
    """Evaluate a trained model on a recipe's sets: a table, results/*.json and similarity.png.

    All processes take part; the first one writes.
    """
    if not zeroshot and not retrieval:
        return []
    done = [run_zeroshot(model, str(workdir), spec) for spec in zeroshot]
    done += [run_retrieval(model, str(workdir), spec) for spec in retrieval]
    results = [result for result, _ in done]
    if jax.process_index() == 0:
        write_results(results, workdir / "results")
        print_results(results)
    draw_similarity(model, done[0][1], workdir / "similarity.png")
    return results


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar over `total` images; yields the function that moves it on."""
    console = Console(stderr=True)
    silent = not console.is_terminal or jax.process_index() != 0
    with Progress(console=console, transient=True, disable=silent) as progress:
        task = progress.add_task(name, total=total)
        yield lambda count: progress.advance(task, count)
