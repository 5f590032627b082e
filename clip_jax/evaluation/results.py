"""Results as files and as a table: CLIP_benchmark's JSON schema, and lines for people."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clip_jax.errors import InputError


@dataclass(frozen=True)
class Result:
    """One evaluation, in CLIP_benchmark's schema."""

    dataset: str
    task: str
    metrics: dict[str, float]
    model: str
    pretrained: str = ""
    language: str = "en"
    notes: dict[str, float] = field(default_factory=dict, compare=False)
    """Shown in the table beside the metrics, such as chance; not part of the schema."""

    def to_json(self) -> str:
        """The JSON object as text."""
        values = asdict(self)
        del values["notes"]
        return json.dumps(values, indent=1)


def write_result(result: Result, path: Path) -> None:
    """Write a result's JSON, creating the folder."""
    write_file(path, result.to_json() + "\n")


def check_output(path: Path | None) -> None:
    """Raise InputError for the name of a result that a chart or table beside it would take."""
    if path is not None and path.suffix.lower() in (".csv", ".png"):
        raise InputError(f"--output {path}: is JSON; charts and tables beside it get .png and .csv")


def check_writable(path: Path) -> None:
    """Raise InputError if it can be told beforehand that nothing can be written there."""
    folders = path.absolute().parents
    there = path if path.is_dir() else next(folder for folder in folders if folder.exists())
    if not there.is_dir():
        raise InputError(f"{path}: cannot write there ({there} is not a directory)")
    if not os.access(there, os.W_OK):
        raise InputError(f"{path}: cannot write there ({there} is read-only)")


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all, creating the folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot write the result there ({error.strerror})") from None


def write_results(results: Sequence[Result], folder: Path) -> None:
    """Write each result as DATASET-TASK.json; sets in different folders may share a name."""
    names = [f"{result.dataset}-{result.task}" for result in results]
    for number, (name, result) in enumerate(zip(names, results, strict=True)):
        again = names[:number].count(name)
        write_result(result, folder / (f"{name}-{again + 1}.json" if again else f"{name}.json"))


def print_results(results: Sequence[Result]) -> None:
    """A table with one row a metric."""
    table = Table("data", "metric", "value")
    for result in results:
        rows = {**result.metrics, **result.notes}
        for name, value in rows.items():
            table.add_row(
                escape(result.dataset),
                escape(name),
                str(value) if isinstance(value, int) else f"{value:.4f}",
            )
        table.add_section()
    Console().print(table)
