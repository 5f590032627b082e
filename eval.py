"""Evaluate a model: python eval.py TASK --model SOURCE --data SPEC [--output results.json]"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from clip_jax.commandline import main, parse


@dataclass(frozen=True)
class Task:
    model: str
    """The model: the workdir of a train.py run."""
    data: str
    """What to evaluate on: wds:PATH, a data set in CLIP_benchmark's layout, or scenes:."""
    output: str | None = None
    """Write the result here, as CLIP_benchmark's JSON."""


@dataclass(frozen=True)
class ZeroShot(Task):
    """Zero-shot classification: acc1, acc5 and mean per class recall."""


@dataclass(frozen=True)
class Retrieval(Task):
    """Image and text retrieval: recall at 1, 5 and 10 both ways."""


Tasks = (
    Annotated[ZeroShot, tyro.conf.subcommand("zeroshot")]
    | Annotated[Retrieval, tyro.conf.subcommand("retrieval")]
)


def run(arguments: Sequence[str]) -> None:
    task = parse(Tasks, arguments, "eval.py")
    import clip_jax
    from clip_jax.evaluation.results import print_results, write_result
    from clip_jax.evaluation.run import run_retrieval, run_zeroshot

    protocol = run_zeroshot if isinstance(task, ZeroShot) else run_retrieval
    result, _ = protocol(clip_jax.load(task.model), task.model, task.data)
    print_results([result])
    if task.output is not None:
        write_result(result, Path(task.output))


if __name__ == "__main__":
    sys.exit(main("eval.py", run))
