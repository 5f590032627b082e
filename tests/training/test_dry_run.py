"""train.py --dry-run: verdict, arithmetic, and its one line when interrupted or refused."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clip_jax import Compute, ResNetConfig
from clip_jax.errors import InputError
from clip_jax.models.config import BagOfWordsConfig
from clip_jax.models.presets import OPENAI
from clip_jax.parallel.hlo import Collective
from clip_jax.parallel.mesh import MeshConfig
from clip_jax.parallel.topology import check_compiler
from clip_jax.training import dry_run as module
from clip_jax.training.config import DataConfig, TrainConfig
from clip_jax.training.dry_run import dry_run, micro_batches, options, size_text, verdict
from clip_jax.training.footprint import Footprint
from clip_jax.training.optimizer import OptimizerConfig

ROOT = Path(__file__).parents[2]
GIB = 2**30
L14 = TrainConfig(
    model=OPENAI["ViT-L/14"],
    data=DataConfig(vocab_size=49408),
    steps=36_000,
    batch_size=32_768,
    compute=Compute(dtype="bfloat16", remat="full"),
    dry_run="tpu:v5e-256",
)
BOTH = frozenset({"image", "text"})
FITTING = Footprint(
    mesh={"data": 256, "fsdp": 1, "tensor": 1},
    held={"parameters": 2 * GIB, "optimizer state": 4 * GIB, "batch": GIB // 4},
    needed=10 * GIB,
    memory=16 * GIB,
    trained=BOTH,
    collectives=(Collective("all-reduce", 256, 2_560_000_000),),
    cycles=1_500_000_000,
)
PART, FEWER = "a --micro-batch (below)", "a smaller --batch-size or more devices"
OVERFULL = dataclasses.replace(FITTING, needed=20 * GIB, collectives=(), cycles=0)


def change(config, **compute):
    return dataclasses.replace(config, compute=dataclasses.replace(config.compute, **compute))


def test_the_verdict_comes_first_and_names_what_is_needed():
    assert verdict(L14, FITTING, "v5e-256").endswith(
        "v5e-256: needs 10.00 GiB of 16.00 GiB a device"
    )
    line = verdict(L14, OVERFULL, "v5e-256")
    assert "does not fit" in line
    assert "needs at least 20.00 GiB of 16.00 GiB a device; try --mesh.fsdp 2, a --micro" in line


@pytest.mark.parametrize(
    ("config", "mesh", "found"),
    [
        (change(L14, remat="none"), (256, 1), ["--mesh.fsdp 2", "--compute.remat full", PART]),
        (L14, (256, 1), ["--mesh.fsdp 2", PART]),
        (L14, (32, 8), ["--mesh.fsdp 16", PART]),
        (L14, (1, 8), [PART, FEWER]),
        (dataclasses.replace(L14, micro_batch=1), (256, 1), ["--mesh.fsdp 2"]),
        (dataclasses.replace(L14, model=OPENAI["RN50"]), (256, 1), ["--mesh.fsdp 2"]),
    ],
)
def test_what_to_change(config, mesh, found):
    shape = {"data": mesh[0], "fsdp": mesh[1], "tensor": 1}
    suggested = options(config, dataclasses.replace(OVERFULL, mesh=shape))
    assert suggested[: len(found)] == found
    assert suggested[-1] == FEWER


@pytest.mark.parametrize(
    ("batch_size", "micro_batch", "sizes"),
    [
        (128 * 256, None, [1, 2, 4, 8, 16, 32, 64]),
        (128 * 256, 16, [1, 2, 4, 8]),
        (9 * 256, None, [1, 3]),
        (256, None, []),
    ],
)
def test_micro_batches_divide_what_a_device_has(batch_size, micro_batch, sizes):
    config = dataclasses.replace(L14, batch_size=batch_size, micro_batch=micro_batch)
    assert micro_batches(config, OVERFULL) == sizes


def test_a_resnet_has_micro_batches_only_with_frozen_statistics():
    resnet = OPENAI["RN50"]
    assert isinstance(resnet.image, ResNetConfig)
    frozen = dataclasses.replace(resnet.image, frozen_statistics=True)
    assert micro_batches(dataclasses.replace(L14, model=resnet), OVERFULL) == []
    model = dataclasses.replace(resnet, image=frozen)
    assert micro_batches(dataclasses.replace(L14, model=model), OVERFULL) == [
        1,
        2,
        4,
        8,
        16,
        32,
        64,
    ]


@pytest.mark.parametrize(
    ("largest", "said"),
    [
        (64, "the largest that fits: --micro-batch 64"),
        (32, "the largest that fits: --micro-batch 32"),
        (5, "the largest that fits: --micro-batch 4"),
        (1, "the largest that fits: --micro-batch 1"),
        (0, "no --micro-batch fits: the rest of the step is too large"),
    ],
)
def test_the_largest_micro_batch_is_found(capsys, monkeypatch, largest, said):
    compiled = []

    def compile_apart(config, machine):
        compiled.append(config.micro_batch)
        return FITTING if (config.micro_batch or 128) <= largest else OVERFULL

    monkeypatch.setattr(module, "check_compiler", lambda: None)
    monkeypatch.setattr(module, "compile_apart", compile_apart)
    assert not dry_run(L14)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("does not fit v5e-256")
    assert lines[-1] == said
    assert len(compiled) <= 4
    for size, line in zip(compiled[1:], lines[-len(compiled) : -1], strict=True):
        fits = "fits: needs 10.00" if size <= largest else "does not fit: needs at least 20.00"
        assert line == f"--micro-batch {size} {fits} GiB of 16.00 GiB a device"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.50 KiB"),
        (5 * 2**20, "5.00 MiB"),
        (2**34, "16.00 GiB"),
        (3 * 2**40, "3.00 TiB"),
    ],
)
def test_sizes_for_people(size, text):
    assert size_text(size) == text


def test_the_report_has_every_part(capsys, monkeypatch):
    """From a made-up footprint: 36,000 steps of 1.0255 s on 256 chips."""
    monkeypatch.setattr(module, "check_compiler", lambda: None)
    monkeypatch.setattr(module, "compile_apart", lambda config, machine: FITTING)
    monkeypatch.setenv("COLUMNS", "120")
    assert dry_run(L14)
    text = capsys.readouterr().out
    assert text.startswith("fits v5e-256 (256 chips, 16x16): needs 10.00 GiB of 16.00 GiB")
    rows = [" ".join(line.split()) for line in text.splitlines()]
    for row in (
        "mesh: data 256 x fsdp 1 x tensor 1; 128 pairs a device",
        "parameters 2.00 GiB",
        "optimizer state 4.00 GiB",
        "activations, gradients and temporaries 3.75 GiB",
        "all-reduce 1 256 2.38 GiB 4.75 GiB",
        "image tower, forward, one pair 162.03 GFLOP",
        "a step: 4 passes of 32,768 pairs 2.3e+16 FLOP",
        "roofline: the longer of the two 455.7 ms 4.6 h 1,166.5",
        "as compiled: kernels, then collectives 1,025.5 ms 10.3 h 2,625.3",
    ):
        assert row in rows, row


def test_what_does_not_fit_has_no_times(capsys, monkeypatch):
    monkeypatch.setattr(module, "check_compiler", lambda: None)
    monkeypatch.setattr(module, "compile_apart", lambda config, machine: OVERFULL)
    assert not dry_run(dataclasses.replace(L14, micro_batch=1))
    text = capsys.readouterr().out
    assert text.startswith("does not fit v5e-256")
    assert "at least 20.00 GiB" in text
    assert "chip-hours" not in text


def test_words_are_counted_by_the_vocabulary_in_use(capsys, monkeypatch):
    """2 x 768 x 8,192, not those of the model's default of 49,408."""
    monkeypatch.setattr(module, "check_compiler", lambda: None)
    monkeypatch.setattr(module, "compile_apart", lambda config, machine: FITTING)
    model = dataclasses.replace(L14.model, text=BagOfWordsConfig())
    words = {"model": model, "objective": "bag_of_words", "data": DataConfig(vocab_size=8192)}
    assert dry_run(dataclasses.replace(L14, **words))
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "text tower, forward, one pair 0.01 GFLOP" in rows


# --- through the script

TINY = """
from clip_jax.models.presets import PRESETS
from clip_jax.training.config import DataConfig, TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

config = TrainConfig(
    model=PRESETS["ViT-tiny"],
    data=DataConfig(train="wds:nowhere", vocab_size=64),
    optimizer=OptimizerConfig(warmup_steps=1),
    steps=2,
    batch_size=8,
    workdir={workdir!r},
)
"""


@pytest.fixture
def start(tmp_path):
    """A function: start train.py on a tiny recipe, as from a shell."""
    recipe = tmp_path / "tiny.py"
    recipe.write_text(TINY.format(workdir=str(tmp_path / "run")))

    def run(*arguments):
        command = [sys.executable, str(ROOT / "train.py"), str(recipe), *arguments]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )

    return run


def test_a_recipe_on_this_machine(start, tmp_path):
    process = start("--dry-run", "here", "--mesh.data", "1")
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert out.startswith("fits this machine: needs ")
    assert "optimizer state" in out
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_compiling(start, number):
    process = start("--dry-run", "here")
    assert process.stderr.readline() == "compiling the train step for this machine ...\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid, number)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (130, "", "train.py: interrupted\n")
    assert not any(Path(f"/proc/{child}").exists() for child in children)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dry-run", "tpu:v5e-300"], "v5e has no such slice; near it: v5e-256"),
        (["--dry-run", "here", "--mesh.data", "3"], "does not fit 1 devices"),
        (["--dry-run", ""], "dry_run must be here or a TPU slice"),
        (["--dry-run", "here", "--steps", "0"], "steps must be at least 1"),
    ],
)
def test_refusals_are_one_line(start, arguments, message):
    process = start(*arguments)
    out, errors = process.communicate()
    assert (process.returncode, out) == (2, "")
    line = errors.removeprefix("compiling the train step for this machine ...\n")
    assert line.startswith("train.py: ")
    assert line.count("\n") == 1
    assert message in line


def test_a_compiler_that_dies_is_reported(monkeypatch):
    monkeypatch.setattr(module, "COMPILE", "import sys; sys.exit('out of breath')")
    config = dataclasses.replace(L14, dry_run="here", mesh=MeshConfig(), batch_size=8)
    config = dataclasses.replace(config, optimizer=OptimizerConfig(warmup_steps=1))
    with pytest.raises(InputError, match=r"the compiler died \(1\): out of breath"):
        dry_run(config)


def test_the_compiler_is_asked_for(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install"):
        dry_run(L14)
    with pytest.raises(InputError, match="pip install"):
        check_compiler()
