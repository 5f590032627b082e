"""Many models on many data sets in one call: what is found is evaluated, and kept on disk.

OUTPUT/report.html                    all of it on one page
OUTPUT/MODEL/SET-TASK.json            CLIP_benchmark's JSON
OUTPUT/MODEL/eval_results.jsonl       DataComp's, with averages.json
OUTPUT/MODEL/kept/SET-TASK.json       what a later call takes instead of evaluating again
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clip_jax.data.sources.clip_benchmark import dataset_type
from clip_jax.data.sources.hub import dataset_name, local_dataset
from clip_jax.data.sources.spec import open_captioned, open_labelled
from clip_jax.errors import InputError
from clip_jax.evaluation.classifier_cache import fingerprint
from clip_jax.evaluation.results import Result, write_file, write_result
from clip_jax.evaluation.run import classify, retrieve
from clip_jax.evaluation.suite.analysis import Analysis, Evaluation, analyse
from clip_jax.evaluation.suite.datacomp import (
    MAIN,
    averages,
    main_metric,
    own_metrics,
    to_datacomp,
)
from clip_jax.evaluation.suite.report import render_report
from clip_jax.model import Model
from clip_jax.parallel.processes import gather, same_errors
from clip_jax.typed import is_of_type

FORMAT = 1
"""Of what is kept; another number makes all of it be evaluated again."""


@dataclass(frozen=True)
class Found:
    """A data set in CLIP_benchmark's layout."""

    name: str
    folder: Path


def run_suite(
    load: Callable[[str], Model],
    models: Sequence[str],
    data: Sequence[str],
    output: Path,
    cache: bool = True,
) -> None:
    """Evaluate each model on each set below the directories (or on the hub), and report.

    load: gives the model of a name. A set that cannot be evaluated is left out of the report; once
    all others are done, InputError says why. All processes take part; the first one writes.
    """
    with same_errors():
        sets = find_sets(data)
        folders = model_folders(models, output)
    done: dict[str, list[Evaluation]] = {}
    problems: dict[str, str] = {}
    for name, folder in folders.items():
        evaluations = evaluate_sets(load(name), name, sets, folder, cache, problems)
        done[name] = evaluations
        if jax.process_index() == 0 and evaluations:
            write_datacomp([evaluation.result for evaluation in evaluations], folder)
    if jax.process_index() == 0 and any(done.values()):
        write_file(output / "report.html", render_report(done))
        print_summary(done)
    if problems:
        names, listed = ", ".join(problems), "; ".join(dict.fromkeys(problems.values()))
        raise InputError(
            f"{len(problems)} of {len(sets)} data sets were left out ({names}): {listed}"
        )


def find_sets(places: Sequence[str]) -> list[Found]:
    """The data sets at or below each directory, by their path; and those named on the hub."""
    roots: dict[Path, str] = {}
    for place in places:
        folder = local_dataset(place)
        if not folder.is_dir():
            raise InputError(f"{place}: no such directory")
        found = [root for root in _walk(folder) if (root / "test" / "nshards.txt").is_file()]
        if not found:
            raise InputError(
                f"{place}: no data set at or below it; one has a file test/nshards.txt"
            )
        hub = place.startswith("hf://")
        roots |= {root.resolve(): dataset_name(place if hub else str(root)) for root in found}
    names = list(roots.values())
    return [
        Found(name if names.count(name) == 1 else _slug(str(root)), root)
        for root, name in roots.items()
    ]


def model_folders(models: Sequence[str], output: Path) -> dict[str, Path]:
    """Where the results of each model go."""
    folders = {name: output / _slug(name) for name in models}
    if len(set(folders.values())) < len(models):
        raise InputError(
            f"--model {' '.join(models)}: two of these would write to the same folder; name each "
            "once, and those with like names in calls with another --output"
        )
    return folders


def evaluate_sets(
    model: Model,
    name: str,
    sets: Sequence[Found],
    folder: Path,
    cache: bool,
    problems: dict[str, str],
) -> list[Evaluation]:
    """One model on all sets. Sets that cannot be evaluated are added to `problems`."""
    identity = model_identity(model)
    evaluations = []
    for found in sets:
        try:
            evaluation = evaluate_once(model, identity, name, found, folder, cache)
        except InputError as error:
            problems[found.name] = str(error)
        else:
            evaluations += [evaluation] if evaluation else []
    return evaluations


def evaluate_once(
    model: Model, identity: str, name: str, found: Found, folder: Path, cache: bool
) -> Evaluation | None:
    """What is kept of this model (a hash of it is given) and set; else evaluated, and kept.

    The first process decides. Another, which may not see its disk, gets None for what is kept.
    """
    task = "retrieval" if dataset_type(found.folder) == "retrieval" else "classification"
    file = f"{found.name}-zeroshot_{task}.json"
    key = {"format": FORMAT, "model": identity, "data": data_identity(found.folder)}
    kept = read_kept(folder / "kept" / file, key)
    if gather("kept" if kept else "")[0]:
        return kept
    evaluate = evaluate_captioned if task == "retrieval" else evaluate_labelled
    evaluation = evaluate(model, name, found, cache)
    if jax.process_index() == 0:
        write_file(folder / "kept" / file, json.dumps({"key": key, **asdict(evaluation)}))
        write_result(evaluation.result, folder / file)
    return evaluation


def evaluate_labelled(model: Model, name: str, found: Found, cache: bool) -> Evaluation:
    """Zero-shot classification; of single labels with what the report shows of them."""
    with same_errors():
        size, frames = model.config.image.image_size, model.config.frames
        data = open_labelled(f"wds:{found.folder}", size, frames=frames)
    result, scores = classify(model, name, replace(data, name=found.name), cache)
    with same_errors():
        own = own_metrics(found.name, found.folder, scores)
    scale = float(model.logit_scale) if model.config.embeds_text else 1.0
    shown = None if data.multilabel else analyse(data, scores, scale)
    result = replace(result, metrics=result.metrics | own)
    return Evaluation(result, len(scores.images), shown)


def evaluate_captioned(model: Model, name: str, found: Found, cache: bool) -> Evaluation:
    """Retrieval both ways; there is no classifier to keep in the cache."""
    with same_errors():
        size, frames = model.config.image.image_size, model.config.frames
        data = open_captioned(f"wds:{found.folder}", size, frames)
    result, pairs = retrieve(model, name, replace(data, name=found.name))
    return Evaluation(result, len(pairs.images), None)


def model_identity(model: Model) -> str:
    """A hash that changes if the weights do, the vocabulary, or what they are computed with."""
    digest = hashlib.sha256(fingerprint(model, model.variables))
    if model.tokenizer is not None:
        with tempfile.TemporaryDirectory() as folder:
            model.tokenizer.save(Path(folder))
            for file in sorted(Path(folder).iterdir()):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def data_identity(root: Path) -> str:
    """A hash that changes if a file of the set does: the texts, and the shards' sizes and times."""
    digest = hashlib.sha256()
    for path in sorted([*root.glob("*.txt"), *(root / "test").iterdir()]):
        status = path.stat()
        about = path.read_bytes() if path.suffix == ".txt" else (status.st_size, status.st_mtime_ns)
        digest.update(repr((path.name, about)).encode())
    return digest.hexdigest()


def read_kept(path: Path, key: dict[str, Any]) -> Evaluation | None:
    """The evaluation on disk, if it is whole and of this model and data."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["key"] != key:
            return None
        shown = values["analysis"]
        analysis = None if shown is None else Analysis.from_json(shown)
        kept = Evaluation(Result(**values["result"]), values["images"], analysis)
        json.dumps(values, ensure_ascii=False).encode()  # lone surrogates cannot be shown
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not is_of_type(kept, Evaluation) or kept.result.task not in MAIN:
        return None
    return kept if kept.analysis is None or kept.analysis.fits else None


def write_datacomp(results: list[Result], folder: Path) -> None:
    """eval_results.jsonl and averages.json."""
    lines = [json.dumps(to_datacomp(result)) + "\n" for result in results]
    write_file(folder / "eval_results.jsonl", "".join(lines))
    write_file(folder / "averages.json", json.dumps(averages(results), indent=1) + "\n")


def print_summary(done: dict[str, list[Evaluation]]) -> None:
    """A table with a row a set and a column a model: the metric that counts."""
    table = Table("data", "metric", *map(escape, done))
    rows: dict[tuple[str, str], dict[str, float | None]] = {}
    for model, evaluations in done.items():
        for evaluation in evaluations:
            metric, value = main_metric(evaluation.result)
            rows.setdefault((evaluation.result.dataset, metric), {})[model] = value
    for about, values in rows.items():
        cells = (values.get(model) for model in done)
        table.add_row(
            *map(escape, about), *("" if cell is None else f"{cell:.4f}" for cell in cells)
        )
    Console().print(table)


def _walk(folder: Path) -> list[Path]:
    """The directory and all below it, sorted."""
    return [Path(path) for path, _, _ in sorted(os.walk(folder))]


def _slug(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"
