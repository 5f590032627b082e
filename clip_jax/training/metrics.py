"""What a run reports: metrics.jsonl, TensorBoard event files, and the progress line."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from clip_jax.data.bad import describe_reasons
from clip_jax.evaluation.results import Result
from clip_jax.training.config import TrainConfig
from clip_jax.training.feed import BadCount, as_reasons


class MetricsWriter:
    """Appends to workdir/metrics.jsonl and to workdir/tensorboard.

    Opened at the step from which a run continues: lines of later steps, which an interrupted run
    left without a checkpoint, are dropped, for they will be written again.
    """

    def __init__(self, workdir: Path, start_step: int):
        path = workdir / "metrics.jsonl"
        if path.exists():
            lines = [line for line in read_metrics(path) if line["step"] <= start_step]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self._file = path.open("a", buffering=1)
        self._tensorboard = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line, and one point a curve."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._tensorboard.add_scalar(name, value, step)

    def close(self) -> None:
        """Write out what is buffered."""
        self._file.close()
        self._tensorboard.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; one that a crash cut off or damaged is left out."""
    lines = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(values, dict) and type(values.get("step")) is int:
            lines.append(values)
    return lines


def write_results(path: Path, step: int, results: Sequence[Result]) -> None:
    """Put an evaluation into metrics.jsonl, a line a data set, in place of earlier ones."""
    if not results:
        return
    lines = [line for line in read_metrics(path) if "task" not in line]
    for result in results:
        lines.append({"step": step, "task": result.task, "dataset": result.dataset})
        lines[-1] |= result.metrics
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


class StepLogger:
    """Reports a run's steps without making the device wait.

    A step's metrics are fetched once the next step has been handed to the device, and no more than
    these two steps are ever on their way. Of several processes, the first one reports.
    """

    def __init__(self, workdir: Path, start_step: int, config: TrainConfig, bad: BadCount):
        """bad: of the batches used up to the step that is pushed."""
        self._config = config
        self._bad = bad
        self._reports = jax.process_index() == 0
        self._writer = MetricsWriter(workdir, start_step) if self._reports else None
        self._pending: tuple[int, dict[str, jax.Array], jax.Array] | None = None
        self._last: Any = None
        self._started = time.perf_counter()
        self._first_step = start_step + 1
        self._timed_from = (start_step, self._started)
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("train"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[report]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            disable=not (self._reports and self._console.is_terminal),
        )
        self._task = self._progress.add_task(
            "train", total=config.steps, completed=start_step, report=""
        )

    def __enter__(self) -> "StepLogger":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._progress.stop()
        if self._writer is not None:
            self._writer.close()

    def push(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Take the metrics of update number `step`, which is still being computed.

        Raises InputError if too many samples were bad up to the step before.
        """
        jax.block_until_ready(self._last)
        self._last = metrics
        flushed = self._flush()
        if flushed is not None:
            at, bad = flushed
            self._bad.check(bad, at * self._config.batch_size, self._config.data.max_bad)
        self._progress.update(self._task, completed=step)
        if step == self._first_step:
            self._first_step_done(step, metrics)
        if step % self._config.log_every == 0 or step == self._config.steps:
            self._pending = (step, metrics, self._bad.total)

    def _first_step_done(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Wait for the first step, to tell compilation from work: rates are counted from here."""
        jax.block_until_ready(metrics)
        self._timed_from = (step, time.perf_counter())
        if self._reports:
            seconds = self._timed_from[1] - self._started
            self._console.print(f"first step after {seconds:.1f} s, with compilation")

    def _flush(self) -> tuple[int, dict[str, int]] | None:
        """Report what is pending; its step and the bad samples up to it, None if nothing is."""
        if self._pending is None:
            return None
        step, metrics, total = self._pending
        self._pending = None
        bad = as_reasons(total)
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        now, (since, when) = time.perf_counter(), self._timed_from
        if step == since:  # the run's first step: with compilation
            since, when = step - 1, self._started
        rate = (step - since) * self._config.batch_size / (now - when)
        self._timed_from = (step, now)
        values |= {"samples_per_second": rate, "samples_seen": step * self._config.batch_size}
        values |= {"bad_samples": sum(bad.values())}
        values |= {f"bad_samples/{reason}": count for reason, count in bad.items()}
        if self._writer is None:
            return step, bad
        self._writer.write(step, values)
        report = f"loss {values['loss']:.4f}  {rate:,.0f} samples/s"
        if bad:
            report += f"  bad: {describe_reasons(bad)}"
        self._progress.update(self._task, report=report)
        if self._progress.disable:
            self._console.print(f"step {step}/{self._config.steps}  {report}")
        return step, bad
