"""Traces read back: real ones of this machine, made-up ones in the form of GPUs and TPUs."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.profiler import ProfileData, TraceAnnotation
from traces import plane

from clip_jax.training.trace import Span, annotated, device_spans, time_shares


def test_a_tpu_s_operations_are_named_by_their_text():
    operation = ("%fusion.1 = f32[8]{0} fusion(%a), calls=%c", None, 5, 25)
    planes = (
        plane("/device:TPU:0", "XLA Ops", [operation]),
        plane("/device:TPU:0 SparseCore 0", "XLA Ops", [("%other = f32[] add()", None, 0, 1)]),
        plane("/device:TPU:1", "Steps", [("7", None, 0, 30)]),
        plane("/host:CPU", "python", [("wait", None, 0, 40)]),
    )
    data = ProfileData.from_text_proto("".join(planes))
    assert device_spans(data) == {
        "/device:TPU:0": [Span("fusion.1", 5, 25)],
        "/device:TPU:1": [],
    }
    assert annotated(data, "wait") == [Span("wait", 0, 40)]


def test_a_gpu_s_kernels_are_named_by_the_instruction_that_started_them():
    kernels = [("sm90_gemm_x", "custom-call.3", 1, 4), ("MemcpyH2D", None, 4, 6)]
    text = plane("/device:GPU:0", "Stream #14(Compute)", kernels)
    (spans,) = device_spans(ProfileData.from_text_proto(text)).values()
    assert spans == [Span("custom-call.3", 1, 4), Span("MemcpyH2D", 4, 6)]


def test_a_cpu_s_operations_fill_the_time_of_a_computation(tmp_path):
    """A product that takes long; the thread that starts it goes on at once."""
    multiply = jax.jit(lambda x: jnp.sin(x) @ x)
    device = jax.devices()[3]
    x = jax.device_put(jnp.ones((1500, 1500)), device)
    jax.block_until_ready(multiply(x))
    jax.profiler.start_trace(tmp_path)
    with TraceAnnotation("outside"):
        jax.block_until_ready(multiply(x))
    with TraceAnnotation("idle"):
        time.sleep(0.05)
    jax.profiler.stop_trace()
    (path,) = tmp_path.rglob("*.xplane.pb")
    data = ProfileData.from_file(str(path))
    (name, spans), *others = device_spans(data).items()
    assert (name, others) == ("CPU 3", [])
    (outside,), (idle,) = annotated(data, "outside"), annotated(data, "idle")
    shares = time_shares({"all": spans}, outside)
    assert shares["all"] > 0.8 * (outside.end - outside.start)
    assert idle.end - idle.start > 0.05e9
    assert time_shares({"all": spans}, idle)["all"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_each_moment_counts_once_and_for_the_first_kind(seed):
    """Compared with a painting moment by moment."""
    rng = np.random.default_rng(seed)
    window = Span("w", 20, 80)
    spans, painted = {}, np.full(100, "", object)
    for kind in "abcd":
        starts = rng.integers(0, 100, 6)
        ends = np.minimum(starts + rng.integers(0, 15, 6), 100)
        spans[kind] = [Span("", *times) for times in zip(starts, ends, strict=True)]
        for start, end in zip(starts, ends, strict=True):
            painted[start:end] = np.where(painted[start:end] == "", kind, painted[start:end])
    spans["none"] = []
    shares = time_shares(spans, window)
    assert shares == {kind: (painted[20:80] == kind).sum() for kind in "abcd"} | {"none": 0}
