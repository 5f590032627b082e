"""train.py --dry-run: what a recipe would need and cost on a machine, before it is rented."""

import bisect
import dataclasses
import functools
import math
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rich.box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from clip_jax.errors import InputError
from clip_jax.models.flops import forward_flops
from clip_jax.parallel.hlo import Collective
from clip_jax.parallel.topology import ENVIRONMENT, Chip, check_compiler, parse_slice
from clip_jax.training.config import TrainConfig, check_train_config
from clip_jax.training.estimate import estimate_step, pair_flops
from clip_jax.training.footprint import HERE, Footprint, vocabulary_size

COMPILE = "import sys; from clip_jax.training.footprint import answer; answer(sys.argv[1])"


def dry_run(config: TrainConfig) -> bool:
    """Compile the step for config.dry_run and print what it needs; whether that is there.

    If not, the largest micro-batch with which it is there is looked for. Raises InputError for a
    recipe or a machine that cannot be.
    """
    check_train_config(config)
    config = with_vocabulary(config)
    target = config.dry_run
    if not target:
        raise InputError("dry_run must be here or a TPU slice such as tpu:v5e-256")
    chip, machine = None, "this machine"
    if target != HERE:
        wanted = parse_slice(target)
        check_compiler()
        chip, machine = wanted.chip, str(wanted)
    footprint = compile_apart(config, machine)
    report(config, footprint, machine, chip)
    if not footprint.fits and micro_batches(config, footprint):
        report_largest(config, footprint, machine)
    return footprint.fits


def with_vocabulary(config: TrainConfig) -> TrainConfig:
    """The recipe with the vocabulary in use: what predicts words costs by its size."""
    text = dataclasses.replace(config.model.text, vocab_size=vocabulary_size(config))
    return dataclasses.replace(config, model=dataclasses.replace(config.model, text=text))


# --- the compiler's process


def compile_apart(config: TrainConfig, machine: str) -> Footprint:
    """The footprint, measured in another process that ends with this one's interest in it.

    SIGTERM is like Ctrl-C meanwhile.
    """
    with tempfile.TemporaryDirectory(prefix="clip_jax-") as folder:
        files = Path(folder)
        (files / "config").write_bytes(pickle.dumps(config))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        if config.dry_run != HERE:
            environment |= ENVIRONMENT
        with (files / "log").open("wb") as log:
            before = signal.signal(signal.SIGTERM, signal.default_int_handler)
            process = subprocess.Popen(
                [sys.executable, "-c", COMPILE, folder],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
            try:
                wait(process, f"compiling the train step for {machine}")
            finally:
                process.kill()
                process.wait()
                signal.signal(signal.SIGTERM, before)
        if not (files / "answer").exists():
            last = (files / "log").read_text(errors="replace").strip().splitlines()[-1:]
            raise InputError(f"the compiler died ({process.returncode}): {''.join(last)}")
        result = pickle.loads((files / "answer").read_bytes())
    if isinstance(result, InputError):
        raise result
    return result


def wait(process: subprocess.Popen, title: str) -> None:
    """Wait for a process, showing that it runs and for how long."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.print(f"{title} ...")
    columns = SpinnerColumn(), TextColumn(title), TimeElapsedColumn()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        bar.add_task(title, total=None)
        while process.poll() is None:
            time.sleep(0.1)


# --- the largest micro-batch


def micro_batches(config: TrainConfig, footprint: Footprint) -> list[int]:
    """The sizes below what a device embeds at once, ascending; none for a ResNet's statistics."""
    share = per_device(config, footprint)
    if config.model.updates_statistics:
        return []
    return [size for size in range(1, config.micro_batch or share) if share % size == 0]


def report_largest(config: TrainConfig, footprint: Footprint, machine: str) -> None:
    """Print the largest micro-batch with which the step fits, if there is one.

    The sizes are halved in number by each compilation: larger ones need more memory.
    """
    console = Console(highlight=False)
    sizes = micro_batches(config, footprint)

    @functools.cache
    def compiled(size: int) -> Footprint:
        smaller = dataclasses.replace(config, micro_batch=size)
        found = compile_apart(smaller, f"{machine} with --micro-batch {size}")
        fits = "fits" if found.fits else "does not fit"
        console.print(f"--micro-batch {size} {fits}: {need(found)}", soft_wrap=True)
        return found

    fitting = bisect.bisect_left(sizes, True, key=lambda size: not compiled(size).fits)
    if fitting == 0:
        console.print("no --micro-batch fits: the rest of the step is too large")
    else:
        console.print(f"the largest that fits: [bold]--micro-batch {sizes[fitting - 1]}[/]")


# --- the report


def report(config: TrainConfig, footprint: Footprint, machine: str, chip: Chip | None) -> None:
    """Print what there is to say; times only for a chip whose speed is known."""
    console = Console(highlight=False)
    console.print(verdict(config, footprint, machine), soft_wrap=True)
    mesh = " x ".join(f"{axis} {size}" for axis, size in footprint.mesh.items())
    console.print(f"mesh: {mesh}; {per_device(config, footprint)} pairs a device")
    console.print(memory_table(footprint))
    if footprint.collectives:
        console.print(collectives_table(footprint))
    console.print(work_table(config, footprint))
    if chip and footprint.fits:
        console.print(time_table(config, footprint, chip))


def verdict(config: TrainConfig, footprint: Footprint, machine: str) -> str:
    """One line: whether the step fits, and if not what to change."""
    if footprint.fits:
        return f"[bold green]fits[/] {machine}: {need(footprint)}"
    levers = ", ".join(options(config, footprint))
    return f"[bold red]does not fit[/] {machine}: {need(footprint)}; try {levers}"


def need(footprint: Footprint) -> str:
    """ "needs 10.00 GiB of 16.00 GiB a device"; what does not fit may need still more."""
    needs = "needs" if footprint.fits else "needs at least"
    return f"{needs} {size_text(footprint.needed)} of {size_text(footprint.memory)} a device"


def options(config: TrainConfig, footprint: Footprint) -> list[str]:
    """Changes that lower the memory of a step, the cheapest first."""
    found, mesh = [], footprint.mesh
    if mesh["data"] > 1:
        factor = min(n for n in range(2, mesh["data"] + 1) if mesh["data"] % n == 0)
        found.append(f"--mesh.fsdp {mesh['fsdp'] * factor}")
    if config.compute.remat != "full":
        found.append("--compute.remat full")
    if micro_batches(config, footprint):
        found.append("a --micro-batch (below)")
    return [*found, "a smaller --batch-size or more devices"]


def per_device(config: TrainConfig, footprint: Footprint) -> int:
    """A device's share of the batch."""
    return config.batch_size // (footprint.mesh["data"] * footprint.mesh["fsdp"])


def memory_table(footprint: Footprint) -> Table:
    """Memory of one device by kind."""
    table = _table("memory of a device", "")
    for kind, size in footprint.held.items():
        table.add_row(kind, size_text(size))
    at_least = "" if footprint.fits else "at least "
    rest = max(0, footprint.needed - sum(footprint.held.values()))
    table.add_row("activations, gradients and temporaries", at_least + size_text(rest))
    table.add_row("together, at the fullest moment", at_least + size_text(footprint.needed))
    return table


def collectives_table(footprint: Footprint) -> Table:
    """Collectives of one step, those of a kind and a group size together."""
    table = _table("collectives of a step", "times", "devices", "data", "sent by a device")
    groups: dict[tuple[str, int], list[Collective]] = {}
    for collective in footprint.collectives:
        groups.setdefault((collective.kind, collective.devices), []).append(collective)
    for (kind, devices), members in sorted(groups.items()):
        times = sum(member.times for member in members)
        size = sum(member.times * member.bytes for member in members)
        sent = sum(member.sent for member in members)
        table.add_row(kind, f"{times:,}", f"{devices:,}", size_text(size), size_text(sent))
    return table


def work_table(config: TrainConfig, footprint: Footprint) -> Table:
    """Floating-point operations, from the architecture."""
    table = _table("floating-point operations", "")
    forward = forward_flops(config.model)
    for tower, flops in forward.items():
        table.add_row(f"{tower} tower, forward, one pair", f"{flops / 1e9:,.2f} GFLOP")
    step = config.batch_size * pair_flops(config, footprint.trained)
    passes = step / config.batch_size / sum(forward.values())
    table.add_row(f"a step: {passes:.3g} passes of {config.batch_size:,} pairs", f"{step:.3g} FLOP")
    table.add_row(f"{config.steps:,} steps", f"{config.steps * step:.3g} FLOP")
    return table


def time_table(config: TrainConfig, footprint: Footprint, chip: Chip) -> Table:
    """Time of a step and of the whole recipe: a floor, and what the compiler expects."""
    chips = math.prod(footprint.mesh.values())
    estimate = estimate_step(config, footprint, chip)
    table = _table("time", "a step", f"{config.steps:,} steps", "chip-hours")

    def add_part(name: str, seconds: float) -> None:
        table.add_row(name, f"{seconds * 1e3:,.1f} ms", "", "")

    def add(name: str, seconds: float) -> None:
        hours = seconds * config.steps / 3600
        table.add_row(name, f"{seconds * 1e3:,.1f} ms", f"{hours:,.1f} h", f"{hours * chips:,.1f}")

    add_part(f"products at {chip.flops / 1e12:,.0f} TFLOP/s", estimate.products)
    add_part(f"collectives at {chip.interconnect / 1e9:,.0f} GB/s", estimate.exchange)
    add("roofline: the longer of the two", estimate.roofline)
    if footprint.cycles:
        add_part("kernels, as the compiler expects", estimate.kernels)
        add("as compiled: kernels, then collectives", estimate.expected)
    return table


def size_text(size: int) -> str:
    """Bytes for people: 17179869184 -> "16.00 GiB"."""
    for unit, scale in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:,.2f} {unit}"
    return f"{size} bytes"


def _table(name: str, *columns: str) -> Table:
    table = Table(name, box=rich.box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right")
    return table
