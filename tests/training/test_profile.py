"""--profile: which steps are traced, and what the table says of them."""

import json
import re
import time

import jax
import jax.numpy as jnp
import pytest
from jax.profiler import ProfileData
from traces import plane

from clip_jax.models.attention import attention
from clip_jax.models.presets import PRESETS
from clip_jax.parallel.hlo import Operation
from clip_jax.training import profile
from clip_jax.training.pace import INPUT_WAIT, Pace
from clip_jax.training.profile import (
    HOST,
    INPUT,
    STEPS,
    WARM_UP,
    WINDOW,
    Profile,
    kind_of,
    of_kernel,
    part_of,
    profiled,
    read_profile,
    report,
    shorten,
)

TINY = PRESETS["ViT-tiny"]
IMAGE = "jit(f)/jvp(CLIP.encode_image)/image"


def test_a_few_steps_are_traced_and_told(tmp_path, capsys):
    """Steps of one product and attention on one device, between waits for input."""

    def step(state, batch):
        matrix = batch["images"]
        with jax.named_scope("image"), jax.named_scope("CLIP.encode_image"):
            heads = (state @ matrix).reshape(64, 8, 2, 64)
            return attention(heads, heads, heads).reshape(512, 128) / 8, {}

    state = jnp.ones((512, 128)) / 8
    batch = {"images": jnp.ones((128, 128)) / 8, "tokens": (jnp.ones((3, 8)), jnp.ones((1, 16)))}
    pace = Pace(0, 1, None)
    with profiled(jax.jit(step), True, TINY, tmp_path) as traced:
        for _ in range(WARM_UP + STEPS + 3):
            with pace.waiting():
                time.sleep(0.01)
            state, _ = traced(state, batch)
            jax.block_until_ready(state)
    values = json.loads((tmp_path / "profile" / "profile.json").read_text())
    seconds = {(row["kind"], row["part"]): row["seconds"] for row in values["shares"]}
    assert values["steps"] == STEPS
    assert 0.4 < values["computed"] < 0.6  # half of the two layers are last ones
    assert 0.01 < seconds[INPUT, "rest"] < values["seconds"]
    assert sum(seconds.values()) == pytest.approx(values["seconds"], rel=1e-6)
    assert {k for k, s in seconds.items() if s and k[1] == "image"} >= {
        ("products", "image"),
        ("attention", "image"),
    }
    assert len(list(tmp_path.rglob("*.xplane.pb"))) == 1
    said = capsys.readouterr().out
    assert f"{STEPS} steps of " in said
    assert "waiting for input" in said


def test_without_it_the_step_is_the_same_one(tmp_path):
    with profiled(len, False, TINY, tmp_path) as step:
        assert step is len
    assert not list(tmp_path.iterdir())


def test_a_run_that_ends_too_early_says_so_and_leaves_no_trace_running(tmp_path, capsys):
    with profiled(jax.jit(lambda s, b: (s, b)), True, TINY, tmp_path) as step:
        for _ in range(WARM_UP + 1):
            step(1, 2)
    assert "no profile" in capsys.readouterr().err
    jax.profiler.start_trace(tmp_path)  # refused while another one runs
    jax.profiler.stop_trace()


def test_a_profile_that_fails_does_not_end_the_run(tmp_path, capsys, monkeypatch):
    """For want of a folder, and for a trace that cannot be read."""

    def run():
        with profiled(jax.jit(lambda s, b: (s + b, b)), True, TINY, tmp_path) as step:
            state = 0
            for _ in range(WARM_UP + STEPS + 1):
                state, _ = step(state, 1)
        assert state == WARM_UP + STEPS + 1
        return capsys.readouterr().err

    in_the_way = tmp_path / "profile"
    in_the_way.touch()
    assert re.fullmatch(r"no profile \(.*File exists.*\); the run goes on\n", run())
    in_the_way.unlink()
    monkeypatch.setattr(profile, "annotated", lambda trace, name: [])
    assert re.fullmatch(r"no profile \(.*unpack.*\); the run goes on\n", run())
    assert not (in_the_way / "profile.json").exists()


PROGRAM = f"""HloModule jit_f, num_partitions=2

ENTRY %main (p: f32[8]) -> f32[8] {{
  %p = f32[8] parameter(0)
  %d = f32[8] dot(%p, %p), metadata={{op_name="{IMAGE}/mlp/dot_general"}}
  %s = f32[8] add(%d, %p), metadata={{op_name="{IMAGE}/attention/attend/add"}}
  %r = f32[8] all-reduce(%s), replica_groups={{}}, to_apply=%add
  ROOT %c = f32[8] copy(%r), metadata={{op_name="jit(f)/jvp(loss)/copy"}}
}}
"""


def test_of_two_devices_the_mean_is_told_and_hidden_collectives_are_not():
    def operation(name, start, end):
        return f"%{name} = f32[8] something(%x)", None, start, end

    first = [operation("d", 100, 140), operation("r", 120, 160), operation("c", 160, 170)]
    second = [operation("s", 100, 120), operation("d", 0, 50), operation("kernel", 190, 250)]
    host = [(WINDOW, None, 100, 200), (INPUT_WAIT, None, 150, 180)]
    trace = ProfileData.from_text_proto(
        plane("/device:TPU:0", "XLA Ops", first)
        + plane("/device:TPU:1", "XLA Ops", second)
        + plane("/host:CPU", "python", host)
    )
    found = read_profile(trace, PROGRAM, steps=2)
    assert found.seconds == pytest.approx(50e-9)
    nanoseconds = {name: round(s * 4e9) for name, s in found.shares.items() if s}
    assert nanoseconds == {
        ("products", "image"): 40,
        ("collectives", "rest"): 20,
        ("copies", "loss"): 10,
        ("attention", "image"): 20,
        ("elementwise", "rest"): 10,
        (INPUT, "rest"): 10 + 30,
        (HOST, "rest"): 20 + 40,
    }
    assert sum(nanoseconds.values()) == 2 * 100
    assert found.longest[0] == ("elementwise", "kernel", pytest.approx(60e-9 / 4))


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NTT", "products"),
        ("cutlass3x_sm90_fprop", "products"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_bprop", "attention"),
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL", "collectives"),
        ("all-reduce.2", "collectives"),
        ("reduce-window", "elementwise"),
        ("MemcpyD2D", "copies"),
        ("loop_add_fusion_7", "elementwise"),
    ],
)
def test_kernels_that_no_program_knows(kernel, kind):
    assert of_kernel(kernel).kind == kind


@pytest.mark.parametrize(
    ("scope", "kind", "part", "short"),
    [
        (f"{IMAGE}/norm_pre/mul", "elementwise", "image", "image/norm_pre/mul"),
        (
            "jit(f)/transpose(jvp(CLIP.encode_text))/text/while/body/closed_call/attend/exp",
            "attention",
            "text",
            "text/attend/exp, back",
        ),
        ("jit(f)/transpose(jvp(loss))/dot_general", "elementwise", "loss", "dot_general, back"),
        ("jit(f)/mul", "elementwise", "rest", "mul"),
        ("", "elementwise", "rest", ""),
    ],
)
def test_where_an_operation_comes_from(scope, kind, part, short):
    assert kind_of(Operation("elementwise", scope)) == kind
    assert part_of(scope) == part
    assert shorten(scope) == short


def test_devices_that_the_profiler_did_not_see(tmp_path, capsys):
    trace = ProfileData.from_text_proto(plane("/host:CPU", "python", [(WINDOW, None, 0, 50)]))
    report(read_profile(trace, PROGRAM, steps=1), 1.0, tmp_path)
    assert capsys.readouterr().out.splitlines()[-1].startswith("the profiler did not see")


def test_the_table_sums_to_a_step(tmp_path, capsys):
    shares = {("products", "image"): 0.003, (HOST, "rest"): 0.001, ("copies", "text"): 0.0}
    report(Profile(5, 0.004, shares, [("products", "image/dot", 0.002)]), 0.625, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("62% of the dense model is computed")
    (products,) = (line.split() for line in lines if "products  " in line and "3.00" in line)
    assert products == ["products", "3.00", "3.00", "75.0%"]
    (together,) = (line.split() for line in lines if line.strip().startswith("together"))
    assert together == ["together", "3.00", "1.00", "4.00", "100.0%"]
    assert not any("copies" in line for line in lines)
