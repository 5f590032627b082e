"""metrics.jsonl: what a line holds, and that a continued run leaves no line twice."""

import errno
import json
from pathlib import Path

import jax.numpy as jnp
import pytest

from clip_jax.evaluation.results import Result
from clip_jax.models.presets import PRESETS
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.training.config import TrainConfig
from clip_jax.training.feed import BadCount
from clip_jax.training.metrics import (
    MetricsWriter,
    StepLogger,
    describe_rates,
    read_metrics,
    replace_metrics,
    write_results,
)
from clip_jax.training.pace import Pace


def test_lines_after_the_checkpoint_are_dropped(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    for step in range(1, 6):
        writer.write(step, {"loss": float(step)})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # the process was killed while it wrote
    writer = MetricsWriter(tmp_path, 3)
    writer.write(4, {"loss": 40.0})
    writer.close()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1), (2, 2), (3, 3), (4, 40)]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_evaluations_of_the_step_from_which_a_run_continues_are_made_again(tmp_path):
    result = Result("cats", "zeroshot_classification", {"acc1": 0.5}, "model")
    writer = MetricsWriter(tmp_path, 0)
    for step in (1, 2, 3):
        writer.write(step, {"loss": 1.0})
        writer.write_result(step, result)
    writer.close()
    MetricsWriter(tmp_path, 2).close()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    evaluation = {"step": 1, "task": result.task, "dataset": "cats", "acc1": 0.5}
    assert lines == [{"step": 1, "loss": 1.0}, evaluation, {"step": 2, "loss": 1.0}]
    write_results(tmp_path / "metrics.jsonl", 2, [result])
    write_results(tmp_path / "metrics.jsonl", 2, [result])
    assert read_metrics(tmp_path / "metrics.jsonl") == [*lines, evaluation | {"step": 2}]


def test_logger_writes_every_nth_and_the_last(tmp_path):
    config = TrainConfig(model=PRESETS["ViT-tiny"], steps=7, log_every=3, batch_size=4)
    metrics = {name: jnp.float32(1) for name in ("loss", "logit_scale", "learning_rate")}
    bad, pace = BadCount(make_mesh(MeshConfig()), {}), Pace(0, config.batch_size, peak=1e12)
    with StepLogger(tmp_path, 0, config, bad, pace) as logger:
        for step in range(1, 8):
            logger.push(step, metrics)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 7]
    assert lines[-1]["samples_seen"] == 28
    for line in lines:
        assert line["samples_per_second"] > 0
        assert line["mfu"] == pytest.approx(line["samples_per_second"] / 1e12)
        assert 0 <= line["input_wait"] <= 1
        assert {"loss", "logit_scale", "learning_rate"} <= line.keys()


def test_a_full_disk_loses_lines_and_stops_nothing(tmp_path, monkeypatch, capsys):
    writer = MetricsWriter(tmp_path, 0)
    writer.write(1, {"loss": 1.0})

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer._events, "flush", full)
        for step in range(2, 40):
            writer.write(step, {"loss": float(step)})
    writer.write(40, {"loss": 40.0})
    writer.close()
    told = capsys.readouterr().err
    assert told == "metrics cannot be written (No space left on device); the run goes on\n"
    assert read_metrics(tmp_path / "metrics.jsonl")[-1] == {"step": 40, "loss": 40.0}


def test_metrics_are_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    replace_metrics(path, [{"step": 1}, {"step": 2}])

    def full(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        MetricsWriter(tmp_path, 1)
    assert read_metrics(path) == [{"step": 1}, {"step": 2}]


def test_damaged_lines_are_left_out(tmp_path):
    whole = b'{"step": 1, "loss": 2.0}\n'
    damaged = [b"\0\0\0", b"\xff\xfe", b"7", b"[]", b'{"loss": 1}', b'{"step": "2"}', b"[" * 10**5]
    (tmp_path / "metrics.jsonl").write_bytes(whole + b"\n".join([*damaged, whole]))
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 1]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"input_wait": 0.01}, "1,234 samples/s"),
        ({"input_wait": 0.3, "mfu": 0.521}, "1,234 samples/s  MFU 52%  waits for input 30%"),
    ],
)
def test_the_progress_line_tells_what_matters(more, line):
    assert describe_rates({"samples_per_second": 1234.4, **more}) == line


class Computing:
    """An array that is not there yet, and whether it was waited for."""

    waited = False

    def block_until_ready(self):
        self.waited = True
        return self


def test_the_loop_does_not_wait_for_the_step_it_has_just_given(tmp_path):
    """But for the step before, so that no more than two are on their way; the first is timed."""
    config = TrainConfig(model=PRESETS["ViT-tiny"], steps=100, log_every=50, batch_size=4)
    bad, pace = BadCount(make_mesh(MeshConfig()), {}), Pace(0, config.batch_size, None)
    steps = [Computing() for _ in range(5)]
    with StepLogger(tmp_path, 0, config, bad, pace) as logger:
        for number, metrics in enumerate(steps, 1):
            logger.push(number, {"loss": metrics})
            assert metrics.waited == (number == 1)
            assert all(before.waited for before in steps[: number - 1])
