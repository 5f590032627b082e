"""A small model trained while it is killed, preempted, damaged and moved to other devices.

    python benchmarks/soak.py --minutes 60
    python benchmarks/soak.py --kills 100 [--output benchmarks/results/soak.json]

Trains the same run again and again with train.py, each time disturbed at random moments until it is
done, and compares it with a run that nothing disturbed. On the same devices losses and final state
have to be the same to the last bit; where devices and processes change from start to start, losses
have to agree up to rounding. Ends with code 1 at the first run that cannot continue, loses a
finished checkpoint, or differs.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from turns import machine

ROOT = Path(__file__).parents[1]
EVERY = 4
"""Steps between checkpoints: most moments are in the middle of a save."""

SAME = (1, 2)
"""Processes and devices of each, of the runs that stay where they are."""

CHANGING = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 2))
ROUNDING = 1e-4
"""Largest relative difference of losses on other devices."""

HEARTBEAT = 15
"""Seconds after which a process that lost another has to end."""

RECIPE = """
from clip_jax import CLIPConfig, TextConfig, ViTConfig
from clip_jax.data.augment import Augment
from clip_jax.training.config import CheckpointConfig, DataConfig, TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

config = TrainConfig(
    model=CLIPConfig(
        embed_dim=16,
        image=ViTConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2),
        text=TextConfig(width=16, layers=1, heads=2, context_length=16),
    ),
    data=DataConfig(train="scenes:", tokenizer={tokenizer!r}, augment=Augment(min_crop_area=0.8)),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=2),
    steps={steps},
    batch_size=16,
    checkpoint=CheckpointConfig(every={every}, keep=3),
    log_every=1,
)
"""


class Failure(Exception):
    """What a run did that it must not do."""


@dataclass
class Soak:
    """One campaign: where it is, what it has done so far."""

    folder: Path
    steps: int
    chance: random.Random
    damaged: set[int] = field(default_factory=set)
    """Steps whose checkpoint has been damaged in the run at hand."""
    done: Counter[str] = field(default_factory=Counter)
    """Disturbances and starts, by kind."""
    lost: list[int] = field(default_factory=list)
    """Steps between the newest checkpoint and the newest line of metrics, at each kill."""
    seconds_to_stop: list[float] = field(default_factory=list)
    """From SIGTERM to the end of the process."""

    def start(self, workdir: Path, processes: int, devices: int) -> list[subprocess.Popen[bytes]]:
        """train.py as so many processes with simulated devices."""
        self.done[f"starts as {processes} x {devices}"] += 1
        command = [sys.executable, str(ROOT / "train.py"), str(self.folder / "recipe.py")]
        command += ["--workdir", str(workdir), "--processes.heartbeat", str(HEARTBEAT)]
        command += ["--processes.timeout", "30"]
        port = free_port()
        started = []
        for index in range(processes):
            told = ["--processes.coordinator", f"localhost:{port}", "--processes.count"]
            told += [str(processes), "--processes.index", str(index)]
            environment = os.environ | {
                "JAX_PLATFORMS": "cpu",
                "JAX_NUM_CPU_DEVICES": str(devices),
                "JAX_COMPILATION_CACHE_DIR": str(self.folder / "cache"),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "PYTHONPATH": str(ROOT),
            }
            with (self.folder / f"errors{index}").open("wb") as errors:
                started.append(
                    subprocess.Popen(
                        [*command, *(told if processes > 1 else [])],
                        env=environment,
                        stdout=subprocess.DEVNULL,
                        stderr=errors,
                    )
                )
        return started

    def errors(self) -> str:
        """What the processes started last have said."""
        return "\n".join(path.read_text()[-3000:] for path in sorted(self.folder.glob("errors*")))

    def undisturbed(self, workdir: Path, processes: int, devices: int) -> None:
        """Run what the workdir holds to its end."""
        for process in self.start(workdir, processes, devices):
            if process.wait() != 0:
                raise Failure(f"ended with code {process.returncode}: {self.errors()}")

    def disturbed(self, workdir: Path, processes: int, devices: int) -> bool:
        """Start, and disturb at a random moment; False if the run was done before."""
        newest = self.newest_whole(workdir)
        running = self.start(workdir, processes, devices)
        if not self.wait(workdir, newest, running):
            return False
        kind = self.chance.choices(("kill", "preempt", "damage"), (3, 1, 1))[0]
        if kind == "preempt":
            self.preempt(workdir, running)
        else:
            self.kill(workdir, running)
        if self.newest_whole(workdir) < newest:
            raise Failure(f"the checkpoint of step {newest} is gone: {self.errors()}")
        if kind == "damage":
            self.damage(workdir)
        return True

    def newest_whole(self, workdir: Path) -> int:
        """Step of the newest checkpoint that has never been damaged; 0 if there is none."""
        return max(checkpoints(workdir) - self.damaged, default=0)

    def wait(self, workdir: Path, newest: int, running: list[subprocess.Popen[bytes]]) -> bool:
        """Until a random moment of the start, or of the steps after it; False if the run ended."""
        until = time.monotonic() + self.chance.uniform(0, 4)
        if self.chance.random() < 0.8:
            goal = newest + self.chance.randrange(1, 5 * EVERY)
            while newest_step(workdir) < goal and all(p.poll() is None for p in running):
                time.sleep(0.01)
            until = time.monotonic() + self.chance.uniform(0, 0.3)
        while time.monotonic() < until and all(process.poll() is None for process in running):
            time.sleep(0.002)
        codes = [process.poll() for process in running]
        if any(codes):
            raise Failure(f"ended with codes {codes}: {self.errors()}")
        if 0 in codes:
            for process in running:
                process.wait()
        return None in codes

    def kill(self, workdir: Path, running: list[subprocess.Popen[bytes]]) -> None:
        """kill -9 one process; another one must end by itself, and not well unless all is done."""
        self.chance.choice(running).kill()
        for process in running:
            if process.wait(HEARTBEAT + 60) == 0 and self.newest_whole(workdir) < self.steps:
                raise Failure(f"a process lost another and ended with 0: {self.errors()}")
        self.done["kills"] += 1
        self.done["kills during a save"] += any(workdir.glob("checkpoints/*-tmp*"))
        self.lost.append(max(newest_step(workdir) - max(checkpoints(workdir), default=0), 0))

    def preempt(self, workdir: Path, running: list[subprocess.Popen[bytes]]) -> None:
        """SIGTERM to one process: all end with the documented code, or before they listen.

        One that has no more steps to make just ends, whatever happens to the others.
        """
        started = time.monotonic()
        self.chance.choice(running).send_signal(signal.SIGTERM)
        codes = {process.wait(HEARTBEAT + 60) for process in running}
        if self.newest_whole(workdir) == self.steps:
            codes.discard(0)
        self.done["preemptions"] += 1
        if codes == {130}:
            self.seconds_to_stop.append(time.monotonic() - started)
        elif 1 in codes or (len(codes) > 1 and codes & {0, 130}):
            raise Failure(f"SIGTERM ended processes with {codes}: {self.errors()}")

    def damage(self, workdir: Path) -> None:
        """Cut, change, zero or remove a file of the newest checkpoint, if another is left."""
        steps = checkpoints(workdir)
        if len(steps) < 2:
            return
        self.damaged.add(max(steps))
        folder = workdir / "checkpoints" / str(max(steps))
        file = self.chance.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        content = bytearray(file.read_bytes() or b"\0")
        how = self.chance.choice(("cut", "changed", "zeroed", "removed"))
        content[self.chance.randrange(len(content))] ^= 1 << self.chance.randrange(8)
        if how == "removed":
            file.unlink()
        elif how == "cut":
            file.write_bytes(content[: len(content) // 2])
        else:
            file.write_bytes(content if how == "changed" else bytes(len(content)))
        self.done[f"checkpoint files {how}"] += 1

    def round(
        self, workdir: Path, places: Sequence[tuple[int, int]], enough: Callable[[], bool]
    ) -> None:
        """One run, disturbed until it is done or there has been enough, and then left alone."""
        self.damaged = set()
        while not enough() and self.disturbed(workdir, *self.chance.choice(places)):
            pass
        self.undisturbed(workdir, *self.chance.choice(places))
        self.done["runs"] += 1


def checkpoints(workdir: Path) -> set[int]:
    """Steps of which there are finished checkpoints, damaged or not."""
    return {int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdecimal()}


def losses(workdir: Path) -> dict[int, float]:
    """Every step's loss."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines}


def newest_step(workdir: Path) -> int:
    """The last step that metrics.jsonl tells of; 0 without one."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return 0
    *_, last = ["", *re.findall(r'^{"step": (\d+).*}$', path.read_text()[-2000:], re.M)]
    return int(last or 0)


def checksum(workdir: Path, step: int) -> int:
    """What the checkpoint of this step says of the state's bits."""
    run = json.loads((workdir / "checkpoints" / str(step) / "run" / "metadata").read_text())
    value: int = run["state_sum"]
    return value


def largest_difference(workdir: Path, expected: Path) -> float:
    """Of two runs' losses, relative; all steps have to be there."""
    ours, theirs = losses(workdir), losses(expected)
    if list(ours) != list(theirs):
        raise Failure(f"steps {list(ours)} instead of {list(theirs)}")
    return max(abs(ours[step] / theirs[step] - 1) for step in theirs)


def check_same(workdir: Path, expected: Path, steps: int) -> None:
    """Two runs have to have the same losses and the same final state, bit by bit."""
    same_bits = checksum(workdir, steps) == checksum(expected, steps)
    if largest_difference(workdir, expected) or not same_bits:
        raise Failure(f"another result on the same devices; see {workdir}")


def free_port() -> int:
    """A port at which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def prepare(folder: Path, steps: int) -> None:
    """A recipe, and a vocabulary for it."""
    from clip_jax.data.sources.scenes import TrainingScenes
    from clip_jax.data.text.tokenizers import train_sentencepiece

    scenes = TrainingScenes(16)
    captions = (scenes.captions(index)[0] for index in range(2000))
    train_sentencepiece(captions, 64, 16).save(folder / "vocabulary")
    tokenizer = str(folder / "vocabulary")
    recipe = RECIPE.format(tokenizer=tokenizer, steps=steps, every=EVERY)
    (folder / "recipe.py").write_text(recipe)


def run(folder: Path, steps: int, minutes: float, kills: int, seed: int) -> dict[str, Any]:
    """The campaign; what is written of it."""
    prepare(folder, steps)
    soak = Soak(folder, steps, random.Random(seed))
    began = time.monotonic()

    def enough() -> bool:
        return soak.done["kills"] >= kills or time.monotonic() - began > 60 * minutes

    expected = folder / "undisturbed"
    soak.undisturbed(expected, *SAME)
    differences = []
    while not enough():
        workdir = folder / "disturbed"
        soak.round(workdir, (SAME,), enough)
        check_same(workdir, expected, steps)
        shutil.rmtree(workdir)
        soak.round(workdir, CHANGING, enough)
        differences.append(largest_difference(workdir, expected))
        if differences[-1] > ROUNDING:
            raise Failure(f"other losses on other devices, by {differences[-1]}; see {workdir}")
        shutil.rmtree(workdir)
        print(f"{(time.monotonic() - began) / 60:.0f} min: {dict(soak.done)}", flush=True)
    return {
        "machine": machine(),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "steps of a run": steps,
        "steps between checkpoints": EVERY,
        "done": dict(sorted(soak.done.items())),
        "runs on the same devices that differ in any bit": 0,
        "largest relative difference of losses where devices change": max(differences),
        "most steps since the newest checkpoint at a kill": max(soak.lost, default=0),
        "longest stop at SIGTERM in seconds": round(max(soak.seconds_to_stop, default=0), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="stop disturbing after so long")
    parser.add_argument("--kills", type=int, default=10**9, help="or after so many kills")
    parser.add_argument("--steps", type=int, default=200, help="steps of each run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        result = run(folder, arguments.steps, arguments.minutes, arguments.kills, arguments.seed)
    except Failure as failure:
        sys.exit(f"failed: {failure} (kept in {folder})")
    shutil.rmtree(folder)
    print(json.dumps(result, indent=1))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
