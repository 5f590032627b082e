"""Class names and prompts of classification sets, and files of one's own that replace them.

A file holds one entry a line, or JSON: a list; an object with a list for each class (templates
only: prompts as they stand); or CLIP_benchmark's, an object with either of these for each data set.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clip_jax.data.samples import LabelledImages, Templates
from clip_jax.errors import InputError
from clip_jax.textfiles import read_json, read_text

MAX_CHARACTERS = 10_000
"""Of a prompt: a hundred times as many as a model reads."""

MAX_PROMPTS = 10_000_000
"""Of a data set: ImageNet-21k with OpenAI's 80 templates has less than two."""


@dataclass(frozen=True)
class PromptFiles:
    """Files that replace what a data set says of its classes."""

    classnames: str | None = None
    templates: str | None = None
    """A file, or one template itself."""

    def read_classnames(self, dataset: str) -> list[str] | None:
        """The names in the order of the labels; None if there is no such file."""
        if self.classnames is None:
            return None
        values = _read(Path(self.classnames), dataset)
        if not isinstance(values, list):
            raise InputError(
                f"{self.classnames}: no class names of {dataset}; a list of names is needed"
            )
        return values

    def read_templates(self, dataset: str) -> Templates | None:
        """Templates, or prompts of each class; None if there is no such file."""
        if self.templates is None:
            return None
        if "{c}" in self.templates:
            return [self.templates]
        if not os.path.isfile(self.templates):
            raise InputError(
                f"{self.templates}: cannot be read (no such file), and is no prompt either, which "
                "has {c} for the class name"
            )
        return _read(Path(self.templates), dataset)


OWN_PROMPTS = PromptFiles()
"""Nothing is replaced."""


def replace_prompts(data: LabelledImages, files: PromptFiles) -> LabelledImages:
    """The data set with what the files say; labels must fit the new class names."""
    classnames = files.read_classnames(data.name) or data.classnames
    if len(classnames) != len(data.classnames):
        raise InputError(
            f"{files.classnames}: {len(classnames)} class names for the {len(data.classnames)} "
            f"classes of {data.name}"
        )
    templates = files.read_templates(data.name) or data.templates
    check_templates(files.templates or data.name, classnames, templates)
    return dataclasses.replace(data, classnames=classnames, templates=templates)


def class_prompts(classnames: list[str], templates: Templates) -> list[list[str]]:
    """The prompts of each class: its own, or the templates with its name in place of {c}."""
    if isinstance(templates, dict):
        return [templates[name] for name in classnames]
    return [[template.replace("{c}", name) for template in templates] for name in classnames]


def check_templates(source: str, classnames: list[str], templates: Templates) -> None:
    """Raise InputError for a template without {c}, a class without prompts, or too much of both.

    A small file of each would be enough to fill memory: every template is filled with every name.
    """
    if isinstance(templates, dict):
        lacking = [name for name in classnames if not templates.get(name)]
        if lacking:
            raise InputError(f"{source}: no prompts for class {lacking[0]!r}")
        return
    without = [template for template in templates if "{c}" not in template]
    if without:
        raise InputError(f"{source}: template {without[0]!r} has no {{c}} for the class name")
    longest = max(len(template) for template in templates)
    longest += max(template.count("{c}") for template in templates) * max(map(len, classnames))
    if longest > MAX_CHARACTERS or len(templates) * len(classnames) > MAX_PROMPTS:
        raise InputError(
            f"{source}: {len(templates)} templates for {len(classnames)} classes, prompts of up to "
            f"{longest} characters; at most {MAX_PROMPTS} of {MAX_CHARACTERS} are taken"
        )


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, none of them blank."""
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if not lines:
        raise InputError(f"{path}: is empty")
    if "" in lines:
        raise InputError(f"{path}: line {lines.index('') + 1} is blank")
    return lines


def read_labels(labels: str) -> list[str]:
    """Two or more different labels: of a text "cat,dog", or of a file of one a line or JSON."""
    if os.path.isfile(labels):
        names = PromptFiles(labels).read_classnames(labels) or []
    else:
        names = [name.strip() for name in labels.split(",")]
    if "" in names:
        raise InputError(f"--labels {labels}: one of them is empty")
    if len(names) < 2:
        raise InputError(f"--labels {labels}: needs at least two labels, such as cat,dog")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"--labels {labels}: {twice[0]!r} is there more than once")
    return names


def _read(path: Path, dataset: str) -> Any:
    """The content of a file as a list of strings, or as lists of them by class."""
    if path.suffix != ".json":
        return read_lines(path)
    values = read_json(path)
    if isinstance(values, dict):
        values = next((values[key] for key in benchmark_keys(dataset) if key in values), values)
    lists = list(values.values()) if isinstance(values, dict) else [values]
    if not lists or not all(map(_is_texts, lists)):
        raise InputError(
            f"{path}: holds nothing for {dataset}; a list of texts is needed, or an object with "
            "such a list for each class"
        )
    return values


def benchmark_keys(dataset: str) -> list[str]:
    """What CLIP_benchmark may call the data set of a folder: wds_vtab-pets_test, vtab/pets."""
    short = dataset.removeprefix("wds_").removesuffix("_test")
    return [dataset, short, short.replace("-", "/", 1)]


def _is_texts(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(v, str) for v in values)
