"""From names of models and data sets to their robustness; used by eval.py."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clip_jax.data.samples import LabelledImages
from clip_jax.data.sources.hub import local_dataset
from clip_jax.data.sources.spec import open_labelled, parse_spec
from clip_jax.errors import InputError
from clip_jax.evaluation.results import Result, check_output, write_file
from clip_jax.evaluation.robustness.shift import (
    Shift,
    draw_shifts,
    fit_baseline,
    masked_accuracy,
    read_baseline,
    same_classes,
)
from clip_jax.evaluation.run import classify
from clip_jax.evaluation.zeroshot import metrics_of
from clip_jax.model import Model
from clip_jax.parallel.processes import same_errors
from clip_jax.textfiles import read_json

MAPPING = "objectnet_to_imagenet_1k.json"


def run_robustness(
    load: Callable[[str], Model],
    models: Sequence[str],
    reference: str,
    shifted: Sequence[str],
    baseline: Path | None = None,
    output: Path | None = None,
    cache: bool = True,
) -> list[Result]:
    """Zero-shot accuracy of each model on each shifted set and on the reference set's same classes.

    baseline: points of other models, to which the line of what is expected is fitted; without it,
    to the models at hand. output: a JSON list of results, with the plot beside it. Prints a table.
    """
    with same_errors():
        check_output(output)
        others = [] if baseline is None else read_baseline(baseline)
    shifts: list[Shift] = []
    for name in models:
        shifts += evaluate_shifts(load(name), name, reference, shifted, cache)
    results = [_result(shift, [*others] or shifts) for shift in shifts]
    if jax.process_index() == 0:
        print_shifts(results)
        if output is not None:
            write_file(output, json.dumps([_schema(result) for result in results], indent=1) + "\n")
            draw_shifts(shifts, others, output.with_suffix(".png"))
    return results


def evaluate_shifts(
    model: Model, name: str, reference: str, shifted: Sequence[str], cache: bool
) -> list[Shift]:
    """One model's accuracies. Each set is classified by its own class names and templates."""
    with same_errors():
        sets = [_open(spec, model) for spec in (reference, *shifted)]
        owners = [
            same_classes(sets[0].classnames, data.classnames, read_mapping(spec))
            for spec, data in zip(shifted, sets[1:], strict=True)
        ]
    known, *others = (classify(model, name, data, cache)[1] for data in sets)
    return [
        Shift(
            name,
            data.name,
            masked_accuracy(known.values, known.labels, owner),
            metrics_of(scores)["acc1"],
            (len(np.unique(owner[owner >= 0])), len(data.classnames)),
        )
        for data, scores, owner in zip(sets[1:], others, owners, strict=True)
    ]


def read_mapping(spec: str) -> dict[str, str]:
    """Classes of a shifted set -> those of ImageNet, from ObjectNet's file if the set has it."""
    kind, path = parse_spec(spec)
    file = local_dataset(path) / MAPPING
    if kind != "wds" or not file.is_file():
        return {}
    mapping = read_json(file)
    if not isinstance(mapping, dict) or not all(isinstance(v, str) for v in mapping.values()):
        raise InputError(f"{file}: not an object of texts")
    return mapping


def print_shifts(results: Sequence[Result]) -> None:
    """A table with one row a model and set."""
    names = ("acc1", "reference_acc1", "effective_robustness")
    table = Table("model", "data", *names, "same classes")
    for result in results:
        values = [f"{result.metrics[name]:.4f}" if name in result.metrics else "" for name in names]
        same, classes = (int(result.notes[name]) for name in ("same_classes", "classes"))
        table.add_row(escape(result.model), escape(result.dataset), *values, f"{same} of {classes}")
    Console().print(table)


def _open(spec: str, model: Model) -> LabelledImages:
    data = open_labelled(spec, model.config.image.image_size, frames=model.config.frames)
    if data.multilabel:
        raise InputError(f"{data.name}: a multilabel set; robustness needs one label an image")
    return data


def _result(shift: Shift, points: Sequence[Shift]) -> Result:
    baseline = fit_baseline([point for point in points if point.dataset == shift.dataset])
    metrics = {"acc1": shift.shifted, "reference_acc1": shift.reference}
    if baseline is not None:
        metrics["effective_robustness"] = baseline.effective_robustness(shift)
    notes = dict(zip(("same_classes", "classes"), map(float, shift.classes or ()), strict=False))
    return Result(shift.dataset, "robustness", metrics, shift.model, notes=notes)


def _schema(result: Result) -> dict[str, object]:
    values = dataclasses.asdict(result)
    del values["notes"]
    return values
