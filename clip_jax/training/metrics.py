"""What a run reports: metrics.jsonl, TensorBoard event files, and the progress line."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from clip_jax.data.bad import describe_reasons
from clip_jax.errors import InputError
from clip_jax.evaluation.results import Result
from clip_jax.training.config import TrainConfig
from clip_jax.training.feed import BadCount, as_reasons
from clip_jax.training.pace import Pace

WAIT_SHOWN = 0.05
"""Share of the time in which the loop waits for input that the progress line tells."""


class MetricsWriter:
    """Appends to workdir/metrics.jsonl and to workdir/tensorboard.

    Opened at the step from which a run continues: lines of later steps, which an interrupted run
    left without a checkpoint, are dropped, for they will be written again; so are the evaluations
    of that step. On a full disk lines are lost, which is reported once, and the run goes on.
    """

    def __init__(self, workdir: Path, start_step: int):
        path, curves = workdir / "metrics.jsonl", workdir / "tensorboard"
        if path.exists():
            kept = [x for x in read_metrics(path) if x["step"] + ("task" in x) <= start_step]
            replace_metrics(path, kept)
        curves.mkdir(exist_ok=True)
        self._file = path.open("a", buffering=1)
        # SummaryWriter's thread ends at a full disk, and then whoever writes waits for ever.
        self._events = EventsWriter(str(curves / "events"))
        start = SessionLog(status=SessionLog.START)
        self._events.write_event(Event(step=start_step + 1, session_log=start))
        self._failed = False

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line, and one point a curve."""
        self._write(step, values, values)

    def write_result(self, step: int, result: Result) -> None:
        """The line of an evaluation; its curves are called by the data set."""
        curves = {f"{result.dataset}/{name}": value for name, value in result.metrics.items()}
        self._write(step, result_line(result), curves)

    def _write(self, step: int, line: Mapping[str, Any], curves: Mapping[str, float]) -> None:
        with self._reported():
            self._file.write(json.dumps({"step": step, **line}) + "\n")
            for name, value in curves.items():
                point = Event(step=step, wall_time=time.time(), summary=scalar(name, value))
                self._events.write_event(point)
            self._events.flush()

    def close(self) -> None:
        """Write out what is buffered."""
        with self._reported():
            self._events.close()
        with self._reported():
            self._file.close()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._failed:
                reason = f"metrics cannot be written ({error.strerror}); the run goes on"
                print(reason, file=sys.stderr, flush=True)
            self._failed = True


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


def replace_metrics(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Have a metrics.jsonl hold these lines; killed at any moment, it holds the old or the new."""
    beside = path.with_suffix(".tmp")
    beside.write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.replace(beside, path)


def write_results(path: Path, step: int, results: Sequence[Result]) -> None:
    """Put an evaluation into metrics.jsonl, a line a data set, in place of earlier ones there."""
    if not results:
        return
    lines = [line for line in read_metrics(path) if "task" not in line or line["step"] != step]
    lines += [{"step": step, **result_line(result)} for result in results]
    replace_metrics(path, lines)


def result_line(result: Result) -> dict[str, Any]:
    """What the line of an evaluation says, but for the step."""
    return {"task": result.task, "dataset": result.dataset, **result.metrics}


class StepLogger:
    """Reports a run's steps without making the device wait.

    A step's metrics are fetched once the next step has been handed to the device, and no more than
    these two steps are ever on their way. Of several processes, the first one reports. Its end
    raises InputError as `push` does, of the last steps.
    """

    def __init__(
        self, workdir: Path, start_step: int, config: TrainConfig, bad: BadCount, pace: Pace
    ):
        """bad: of the batches used up to the step that is pushed."""
        self._config = config
        self._bad, self._pace = bad, pace
        self._reports = jax.process_index() == 0
        self._writer = MetricsWriter(workdir, start_step) if self._reports else None
        self._pending: tuple[int, dict[str, jax.Array], jax.Array] | None = None
        self._last: Any = None
        self._first_step = start_step + 1
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
        last = self._flush()
        self._progress.stop()
        if self._writer is not None:
            self._writer.close()
        if kind is None:
            self._check(*last)

    def push(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Take the metrics of update number `step`, which is still being computed.

        Raises InputError if too many samples were bad up to the step before, or too many updates
        in a row were skipped.
        """
        jax.block_until_ready(self._last)
        self._last = metrics
        self._check(*self._flush())
        self._progress.update(self._task, completed=step)
        if step == self._first_step:
            self._first_step_done(step, metrics)
        if step % self._config.log_every == 0 or step == self._config.steps:
            self._pending = (step, metrics, self._bad.total)

    @contextmanager
    def evaluating(self, step: int) -> Iterator[Callable[[Sequence[Result]], None]]:
        """The block evaluates the model of update number `step`; yields what takes the results.

        Steps before are reported first, and the time is no part of theirs.
        """
        jax.block_until_ready(self._last)
        self._check(*self._flush())
        self._progress.stop()
        with self._pace.apart():
            yield partial(self._report_results, step)
        self._progress.start()

    def _report_results(self, step: int, results: Sequence[Result]) -> None:
        if self._writer is None:
            return
        for result in results:
            self._writer.write_result(step, result)
            metrics = "  ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
            self._console.print(f"step {step}  {escape(result.dataset)}  {metrics}")

    def _first_step_done(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Wait for the first step, to tell compilation from work: rates are counted from here."""
        jax.block_until_ready(metrics)
        seconds = self._pace.restart(step)
        if self._reports:
            self._console.print(f"first step after {seconds:.1f} s, with compilation")

    def _check(self, values: Mapping[str, float], bad: Mapping[str, int]) -> None:
        """Raise InputError if what has been reported is a reason to stop."""
        used = int(values.get("samples_seen", 0))
        self._bad.check(bad, used, self._config.data.max_bad)
        skipped = values.get("skipped_in_a_row", 0)
        if skipped >= self._config.max_skipped:
            workdir = self._config.workdir
            saved = any(Path(workdir, "checkpoints").glob("[0-9]*"))
            weights = f", with --init-from {workdir}, whose checkpoints are of before"
            raise InputError(
                f"the last {skipped} updates were skipped, the loss or its gradient not being "
                "finite; try --optimizer.clip-norm 1 or a lower --optimizer.learning-rate in "
                f"another --workdir{weights if saved else ''}"
            )

    def _flush(self) -> tuple[dict[str, float], dict[str, int]]:
        """Report what is pending; its values and the bad samples, both empty if nothing is."""
        if self._pending is None:
            return {}, {}
        step, metrics, total = self._pending
        self._pending = None
        bad = as_reasons(total)
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        rates = self._pace.rates(step)
        values |= rates | {"samples_seen": step * self._config.batch_size}
        values |= {"bad_samples": sum(bad.values())}
        values |= {f"bad_samples/{reason}": count for reason, count in bad.items()}
        if self._writer is None:
            return values, bad
        self._writer.write(step, values)
        report = f"loss {values['loss']:.4f}  {describe_rates(rates)}"
        if bad:
            report += f"  bad: {describe_reasons(bad)}"
        if values.get("skipped_updates"):
            report += f"  skipped: {values['skipped_updates']}"
        self._progress.update(self._task, report=report)
        if self._progress.disable:
            self._console.print(f"step {step}/{self._config.steps}  {report}")
        return values, bad


def describe_rates(rates: Mapping[str, float]) -> str:
    """Pairs a second, the utilisation if it is known, the wait for input if it matters."""
    parts = [f"{rates['samples_per_second']:,.0f} samples/s"]
    if "mfu" in rates:
        parts.append(f"MFU {rates['mfu']:.0%}")
    if rates["input_wait"] > WAIT_SHOWN:
        parts.append(f"waits for input {rates['input_wait']:.0%}")
    return "  ".join(parts)
