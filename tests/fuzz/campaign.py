"""The long fuzzing campaign: PYTHONPATH=tests python -m fuzz.campaign --inputs 1000000

Gives damaged files to every parser (targets), in a process that may take so much memory and so
many seconds an input. What is neither read nor refused in one line is saved under --findings, with
the traceback. Input number n of a target depends on the seed alone; --output keeps the table.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from ctypes import c_longlong
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

from fuzz.mutate import mutated
from fuzz.target import REFUSALS
from fuzz.targets import TARGETS

SECONDS = 10
"""An input may take, on a machine that does other work besides."""

MEGABYTE = 1 << 20
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files are written, a million of them; None for the usual place."""

NEXT, ACCEPTED, REFUSED, FOUND, READY = range(5)
"""What a worker tells while it works: the input it is at, counts, and whether it has begun."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="over all targets")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    names = arguments.target or list(TARGETS)
    shares = sum(TARGETS[name].share for name in names)
    started, rows = time.time(), {}
    for name in names:
        inputs = -int(-arguments.inputs * TARGETS[name].share // shares)
        rows[name] = run_target(name, inputs, arguments.seed, arguments.findings)
        print(line_of(name, rows[name]), flush=True)
    total = {key: round(sum(row[key] for row in rows.values()), 1) for key in rows[names[0]]}
    print(line_of("all", total))
    if arguments.output is not None:
        limits = {"seconds_an_input": SECONDS, "seed": arguments.seed, **versions()}
        memory = {name: TARGETS[name].megabytes for name in names}
        results = limits | {"wall_seconds": round(time.time() - started), "all": total}
        results |= {"targets": rows, "megabytes": memory}
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(1 if total["findings"] else 0)


def line_of(name: str, row: dict[str, float]) -> str:
    counts = "  ".join(f"{key} {value:>9,}" for key, value in row.items())
    return f"{name:25}{counts}"


def versions() -> dict[str, str]:
    """Of the libraries that parse."""
    from importlib.metadata import version

    packages = ("numpy", "pillow", "pyarrow", "safetensors", "sentencepiece", "simplejpeg")
    return {"python": sys.version.split()[0]} | {package: version(package) for package in packages}


def run_target(name: str, inputs: int, seed: int, findings: Path) -> dict[str, float]:
    """Give a target so many inputs; a worker that crashes or hangs is followed by another."""
    state, started, lost = RawArray(c_longlong, 5), time.perf_counter(), 0
    context = multiprocessing.get_context("spawn")
    while state[NEXT] < inputs:
        state[READY] = 0
        worker = context.Process(target=work, args=(name, inputs, seed, findings, state))
        worker.start()
        reason = watch(worker, state)
        if not state[READY]:
            sys.exit(f"{name}: its worker did not start")
        if state[NEXT] < inputs:
            lost += 1
            save(findings / name, input_of(name, seed, state[NEXT]), reason)
            state[NEXT] += 1
    counts = {"inputs": inputs, "accepted": state[ACCEPTED], "refused": state[REFUSED]}
    seconds = round(time.perf_counter() - started, 1)
    return counts | {"findings": state[FOUND] + lost, "seconds": seconds}


def watch(worker: Any, state: Any) -> str:
    """Wait for a worker's end, or for an input that takes too long; what happened."""
    at, since = -1, time.monotonic()
    while worker.is_alive():
        worker.join(0.5)
        if state[NEXT] != at or not state[READY]:
            at, since = state[NEXT], time.monotonic()
        elif time.monotonic() - since > SECONDS:
            worker.kill()
            worker.join()
            return f"takes more than {SECONDS} seconds"
    return f"ends the process ({worker.exitcode})"


def work(name: str, inputs: int, seed: int, findings: Path, state: Any) -> None:
    """Go on from where the state says, in a folder of its own; called in the worker."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=MEMORY))
    try:
        target = TARGETS[name]
        seeds, run = target.make(folder)
        silence()
        with contextlib.suppress(Exception):
            run(seeds[0])  # imports what it needs
        limit = memory_used() + target.megabytes * MEGABYTE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        state[READY] = 1
        while state[NEXT] < inputs:
            content = mutated(seeds, random.Random(f"{name} {seed} {state[NEXT]}"))
            try:
                run(content)
                state[ACCEPTED] += 1
            except REFUSALS:
                state[REFUSED] += 1
            except BaseException:
                state[FOUND] += 1
                save(findings / name, content, traceback.format_exc())
            state[NEXT] += 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def input_of(name: str, seed: int, number: int) -> bytes:
    """Input number `number` of a target."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=MEMORY))
    try:
        return mutated(TARGETS[name].make(folder)[0], random.Random(f"{name} {seed} {number}"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def save(folder: Path, content: bytes, reason: str) -> None:
    """Keep an input, and beside it what happened; one for each place in the code."""
    lines = reason.strip().splitlines()
    place = [line for line in lines if line.startswith("  File ")][-1:]
    about = "".join([*place, lines[-1].partition(":")[0]])
    mark = hashlib.sha256(about.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / mark).write_bytes(content)
    (folder / f"{mark}.txt").write_text(reason, errors="replace")


def memory_used() -> int:
    """Bytes of address space, of which a large part is only reserved."""
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def silence() -> None:
    """What libraries say of damaged files is of no interest here."""
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)


if __name__ == "__main__":
    main()
