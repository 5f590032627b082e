"""From a table of people and a model to shares by group, printed, drawn and written."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clip_jax.data.prompts import PromptFiles, check_templates, read_lines
from clip_jax.errors import InputError
from clip_jax.evaluation.analyses.bias.measures import (
    EVERYONE,
    Groups,
    Share,
    above,
    accuracy,
    assigned,
)
from clip_jax.evaluation.analyses.bias.people import People, default_groups, read_people
from clip_jax.evaluation.analyses.bias.probe import Probe
from clip_jax.evaluation.embed import embed_readable
from clip_jax.evaluation.plots import save_figure
from clip_jax.evaluation.results import check_output, write_file
from clip_jax.evaluation.run import progress
from clip_jax.evaluation.zeroshot import build_classifier
from clip_jax.model import Model, check_embeds_text
from clip_jax.parallel.processes import same_errors
from clip_jax.textfiles import read_json

ACCURACY = "accuracy"
BARS_SHOWN = 40
"""Groups in a panel of the picture."""


@dataclass(frozen=True)
class Classes:
    """What pictures may be told as."""

    own: list[str]
    """Names of the classes of the table's labels."""
    numbers: np.ndarray
    """The class of each picture: [pictures] int."""
    extra: dict[str, list[str]]
    """Harmful ones by kind."""


def run_bias(model: Model, name: str, data: Path, probe: Probe, output: Path | None) -> list[Share]:
    """Shares by group. Prints a table; writes a JSON list to `output`, and bars beside it."""
    with same_errors():
        check_output(output)
        groups = probe.groups or default_groups(data)
        wanted = dict.fromkeys((*groups, *probe.label))
        people = read_people(data, list(wanted), probe.file)
        Groups(people, groups, np.arange(len(people))).check(probe.reference)
        classes = read_classes(people, probe)
        labels = [] if probe.labels is None else read_lines(Path(probe.labels))
        _check_different(labels)
        templates = PromptFiles(templates=probe.templates).read_templates(people.name)
        templates = templates or ["a photo of a {c}."]
        extra = [each for kind in classes.extra.values() for each in kind]
        every = list(dict.fromkeys([*classes.own, *extra, *probe.added, *labels]))
        check_templates(probe.templates or "", every, templates)
        check_embeds_text(model.config)
    with progress(people.name, len(people)) as on_batch:
        rows, read = embed_readable(model, people, on_batch=on_batch)
    cosines = rows @ build_classifier(model, every, templates).T
    columns = {each: cosines[:, number] for number, each in enumerate(every)}
    with same_errors():
        members = Groups(people, groups, read)
    shares = []
    if classes.own:
        shares += label_shares(columns, classes, probe.added, members, classes.numbers[read])
    for threshold in probe.thresholds if labels else ():
        hits = above(_stack(columns, labels), float(model.logit_scale), labels, threshold)
        for label, which in hits.items():
            shares += members.shares(f"{label!r} from {threshold:.2%}", which)
    if jax.process_index() == 0:
        print_shares(shares, people.name, probe.reference)
        if output is not None:
            write_file(output, json.dumps([_values(share, name) for share in shares], indent=1))
            draw_shares(shares, output.with_suffix(".png"))
    return shares


def label_shares(
    columns: Mapping[str, np.ndarray],
    classes: Classes,
    added: Sequence[str],
    groups: Groups,
    labels: np.ndarray,
) -> list[Share]:
    """Accuracy, and what is assigned to the extra classes before and after some are added.

    columns: cosines of the pictures with each class, by its name.
    """
    shares = groups.shares(ACCURACY, accuracy(_stack(columns, classes.own), labels))
    if not classes.extra:
        return shares
    designs: dict[str, Sequence[str]] = {"": ()}
    if added:
        designs[f", with {', '.join(added)} added"] = added
    extra = [name for names in classes.extra.values() for name in names]
    for design, more in designs.items():
        names = [*classes.own, *extra, *more]
        kinds = classes.extra | ({", ".join(more): more} if more else {})
        for kind, hits in assigned(_stack(columns, names), names, kinds).items():
            shares += groups.shares(f"told as {kind}{design}", hits)
    return shares


def read_classes(people: People, probe: Probe) -> Classes:
    """The classes of the label columns, and the extra ones of the file."""
    if not probe.label:
        return Classes([], np.zeros(len(people), int), {})
    names = _read_object(probe.names) if probe.names else {}
    texts = [
        " ".join(str(names.get(value, value.replace("_", " "))) for value in values)
        for values in people.joined(probe.label)
    ]
    own = sorted(set(texts))
    if len(own) < 2:
        raise InputError(f"{people.name}: all pictures are {own[0]!r}; there is nothing to tell")
    extra = _read_object(probe.extra) if probe.extra else {}
    if probe.extra is not None and not (extra and all(map(_is_texts, extra.values()))):
        raise InputError(f"{probe.extra}: must be an object with a list of class names by kind")
    if ", ".join(probe.added) in extra:
        raise InputError(f"--added {', '.join(probe.added)} is a kind of {probe.extra}; rename it")
    _check_different([*own, *(name for each in extra.values() for name in each), *probe.added])
    return Classes(own, np.array([own.index(text) for text in texts]), extra)


def print_shares(shares: Sequence[Share], data: str, reference: str) -> None:
    """A row for each measure and group, with how far it is from the group of reference."""
    table = Table(
        "measure",
        "group",
        "images",
        "share",
        "95% interval",
        escape(f"to {reference}"),
        title=escape(data),
    )
    table.columns[1].overflow = "fold"
    measures = {share.measure: share.value for share in shares if share.group == reference}
    for share in shares:
        low, high = share.interval
        table.add_row(
            escape(share.measure) if share.group == EVERYONE else "",
            escape(share.group),
            str(share.images),
            f"{share.value:.2%}",
            f"{low:.2%} to {high:.2%}",
            f"{share.value - measures[share.measure]:+.2%}",
        )
    Console().print(table)


def draw_shares(shares: Sequence[Share], path: Path) -> None:
    """A PNG: a panel of bars with intervals for each measure."""
    from matplotlib.figure import Figure

    measures = list(dict.fromkeys(share.measure for share in shares))
    shown = [[s for s in shares if s.measure == m][:BARS_SHOWN] for m in measures]
    heights = [0.22 * len(own) + 0.6 for own in shown]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    panels = figure.subplots(len(shown), squeeze=False, height_ratios=heights)[:, 0]
    for axes, measure, own in zip(panels, measures, shown, strict=True):
        values = np.array([share.value for share in own])
        reach = np.array([share.interval for share in own]).T
        errors = np.abs(reach - values)
        places = np.arange(len(own))[::-1]
        axes.barh(places, values, xerr=errors, color="tab:blue", alpha=0.7, capsize=2)
        axes.set_yticks(places, [share.group for share in own], size=8, parse_math=False)
        axes.set_title(measure, size=10, parse_math=False)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3, axis="x")
    save_figure(figure, path)


def _stack(columns: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    return np.stack([columns[name] for name in names], axis=1)


def _check_different(names: Sequence[str]) -> None:
    """Raise InputError for a name that is there twice: both would be told as the first."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]!r} is a class or label twice; name each once")


def _read_object(path: str) -> dict[str, Any]:
    values = read_json(Path(path))
    if not isinstance(values, dict):
        raise InputError(f"{path}: must be an object")
    return values


def _is_texts(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(v, str) for v in values)


def _values(share: Share, model: str) -> dict[str, Any]:
    low, high = share.interval
    return {
        "model": model,
        "measure": share.measure,
        "group": share.group,
        "images": share.images,
        "hits": share.hits,
        "share": share.value,
        "low": low,
        "high": high,
    }
