"""Evaluate a model: python eval.py TASK --model SOURCE --data SPEC [--output results.json]"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro

from clip_jax.commandline import main, parse
from clip_jax.parallel.processes import ProcessesConfig, same_errors, start_processes


@dataclass(frozen=True)
class Task:
    """What all protocols take."""

    model: str
    """The model: an OpenAI name such as ViT-B/32, hf://org/name, a directory or file in the layout
    of OpenAI, open_clip or Hugging Face, or the workdir of a train.py run."""
    data: str
    """What to evaluate on: wds:PATH, a data set in CLIP_benchmark's layout; for zeroshot also
    folder:PATH, one folder a class, or tfds:NAME:SPLIT; or scenes:."""
    output: str | None = None
    """Write the result here, as CLIP_benchmark's JSON."""
    tokenizer: str | None = None
    """The vocabulary, if it is not with the weights: a directory, a merges file, hf://org/name."""
    activation: Literal["quick_gelu", "gelu"] | None = None
    """The activation, for a weight file without a config."""
    image_size: int | None = None
    """Another input resolution than the model's."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation."""
    processes: ProcessesConfig = field(default_factory=ProcessesConfig)
    """How the processes of an evaluation on several hosts meet."""


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
    jax.config.update("jax_enable_preemption_service", False)  # SIGTERM ends an evaluation at once
    start_processes(task.processes)

    import clip_jax
    from clip_jax.evaluation.embed import on_all_devices
    from clip_jax.evaluation.results import print_results, write_result
    from clip_jax.evaluation.run import run_retrieval, run_zeroshot

    protocol = run_zeroshot if isinstance(task, ZeroShot) else run_retrieval
    with same_errors():
        model = clip_jax.load(
            task.model,
            task.dtype,
            activation=task.activation,
            image_size=task.image_size,
            tokenizer=task.tokenizer,
        )
    result, _ = protocol(on_all_devices(model), task.model, task.data)
    if jax.process_index() == 0:
        print_results([result])
        if task.output is not None:
            write_result(result, Path(task.output))


if __name__ == "__main__":
    sys.exit(main("eval.py", run))
