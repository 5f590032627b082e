"""train.py --profile: a trace of a few steps, and a table of where their time goes.

The trace is for tools such as xprof and Perfetto; the table is of this process's devices. Kernels
are told apart by the compiled program, which says what each of them was made from.
"""

import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import rich.box
from jax.profiler import ProfileData, ProfileOptions, TraceAnnotation
from rich.console import Console
from rich.table import Table

from clip_jax.models.attention import SCOPE
from clip_jax.models.config import CLIPConfig
from clip_jax.models.flops import computed_flops, forward_flops
from clip_jax.parallel.hlo import (
    COLLECTIVES,
    CONTROL,
    COPIES,
    ELEMENTWISE,
    PRODUCTS,
    Operation,
    operations,
)
from clip_jax.training.pace import INPUT_WAIT
from clip_jax.training.step import Step
from clip_jax.training.trace import Span, annotated, device_spans, time_shares

WARM_UP = 10
"""Steps made before the trace begins."""
STEPS = 5
"""Steps in the trace."""
LONGEST = 10
"""Operations in the second table."""

ATTENTION = "attention"
KINDS = (PRODUCTS, ATTENTION, ELEMENTWISE, COPIES, COLLECTIVES, CONTROL)
"""What devices do. A moment in which several things run counts for the first of these, so that a
collective counts only where nothing hides it."""
PARTS = ("image", "text", "loss", "rest")
"""What it is done for. The rest is the optimizer above all."""
INPUT, HOST = "waiting for input", "waiting for the host"
"""What devices wait for: the loop for its next batch; anything else the host does."""

WINDOW = "profiled steps"


@dataclass(frozen=True)
class Profile:
    """Where the time of some steps went, as means over this process's devices."""

    steps: int
    seconds: float
    """Of a step."""
    shares: dict[tuple[str, str], float]
    """Seconds of a step by (kind, part); waiting has the part "rest"."""
    longest: list[tuple[str, str, float]]
    """Kind, scope and seconds a step of single operations, some of which overlap."""


@contextmanager
def profiled(step: Step, wanted: bool, model: CLIPConfig, workdir: Path) -> Iterator[Step]:
    """The train step of a model, of which the first process traces some calls if this is wanted.

    Around the trace, and nowhere else, it waits for the devices. What is found is printed and
    written to workdir/profile when the last of these calls returns. If that fails, whatever the
    reason, it is said, and the run goes on.
    """
    if not wanted or jax.process_index() != 0:
        yield step
        return
    recorder = _Recorder(step, model, workdir / "profile")
    try:
        yield recorder
    finally:
        recorder.give_up()


@contextmanager
def _survived() -> Iterator[None]:
    """A profile that fails does not take the run with it."""
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        print(f"no profile ({reason}); the run goes on", file=sys.stderr, flush=True)


class _Recorder:
    """A train step that counts its calls, and traces those after the first WARM_UP."""

    def __init__(self, step: Any, model: CLIPConfig, folder: Path):
        self._step, self._model, self._folder = step, model, folder
        self._calls = 0
        self._window: TraceAnnotation | None = None

    def __call__(self, state: Any, batch: Any) -> Any:
        after = self._step(state, batch)
        self._calls += 1
        if self._calls == WARM_UP:
            jax.block_until_ready(after)
            with _survived():
                self._start()
        elif self._calls == WARM_UP + STEPS and self._window is not None:
            jax.block_until_ready(after)
            with _survived():
                self._stop()
                self._tell(after[0], batch)
        return after

    def _start(self) -> None:
        options = ProfileOptions()
        options.python_tracer_level = 0  # each call of a Python function: slow, and not shown here
        self._folder.mkdir(exist_ok=True)  # if it cannot be, better told now than after the trace
        jax.profiler.start_trace(self._folder, profiler_options=options)
        self._window = TraceAnnotation(WINDOW)
        self._window.__enter__()

    def _stop(self) -> None:
        assert self._window is not None
        self._window.__exit__(None, None, None)
        self._window = None
        jax.profiler.stop_trace()

    def _tell(self, state: Any, batch: Any) -> None:
        newest = max(self._folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
        trace = ProfileData.from_file(str(newest))
        # Compiled already: JAX finds the program by the arguments' types.
        program = self._step.lower(state, batch).compile().as_text()
        profile = read_profile(trace, program, STEPS)
        report(profile, computed_share(self._model, batch), self._folder)

    def give_up(self) -> None:
        """End a trace that the run's end or a failure cut off."""
        if self._window is not None:
            with _survived():
                self._stop()
        if self._calls < WARM_UP + STEPS:
            print(
                f"no profile: it is of steps {WARM_UP + 1} to {WARM_UP + STEPS} after a start, and "
                f"{self._calls} were made",
                file=sys.stderr,
            )


def read_profile(trace: ProfileData, program: str, steps: int) -> Profile:
    """Where the time in the annotation WINDOW went.

    program: compiled.as_text() of what ran in it.
    """
    (window,) = annotated(trace, WINDOW)
    known, waits = operations(program), annotated(trace, INPUT_WAIT)
    devices = device_spans(trace)
    scale = 1e-9 / steps / max(1, len(devices))
    shares: dict[tuple[str, str], float] = defaultdict(float)
    longest: dict[tuple[str, str], float] = defaultdict(float)
    for spans in devices.values():
        sorts: dict[tuple[str, str], list[Span]] = {(k, p): [] for k in KINDS for p in PARTS}
        for span in spans:
            if span.end <= window.start or window.end <= span.start:
                continue
            operation = known.get(span.name) or of_kernel(span.name)
            kind = kind_of(operation)
            sorts[kind, part_of(operation.scope)].append(span)
            if kind != CONTROL:
                name = shorten(operation.scope) or span.name
                longest[kind, name] += (span.end - span.start) * scale
        sorts[INPUT, "rest"] = waits
        sorts[HOST, "rest"] = [window]
        for sort, duration in time_shares(sorts, window).items():
            shares[sort] += duration * scale
    ranked = sorted(longest.items(), key=lambda item: -item[1])[:LONGEST]
    return Profile(
        steps,
        (window.end - window.start) * 1e-9 / steps,
        dict(shares),
        [(kind, name, seconds) for (kind, name), seconds in ranked],
    )


_KERNELS = (
    (re.compile("nccl|^(all-|reduce-scatter|collective-)", re.IGNORECASE), COLLECTIVES),
    (re.compile("mem(cpy|set)", re.IGNORECASE), COPIES),
    (re.compile("fmha|flash|sdpa"), ATTENTION),
    (re.compile("gemm|nvjet|cutlass|xmma|conv|wgrad|dgrad|fprop"), PRODUCTS),
)


def of_kernel(name: str) -> Operation:
    """An operation of which the program knows nothing, told by the name of its kernel."""
    kinds = (kind for pattern, kind in _KERNELS if pattern.search(name))
    return Operation(next(kinds, ELEMENTWISE), "")


def kind_of(operation: Operation) -> str:
    """One of KINDS."""
    attends = f"/{SCOPE}/" in operation.scope and operation.kind not in (COLLECTIVES, CONTROL)
    return ATTENTION if attends else operation.kind


_PARTS = {
    "CLIP.encode_image": "image",
    "CLIP.view": "image",
    "CLIP.encode_text": "text",
    "CLIP.read": "text",
    "loss": "loss",
}
"""What computes a part, as JAX's name for an operation's origin has it. A decoder is in "text"."""


def part_of(scope: str) -> str:
    """One of PARTS, by the first of _PARTS in JAX's name for an operation's origin."""
    found = re.search("|".join(map(re.escape, _PARTS)), scope)
    return _PARTS[found[0]] if found else "rest"


def shorten(scope: str) -> str:
    """ "jit(f)/transpose(jvp(CLIP.encode_text))/text/norm/add" -> "text/norm/add, back"."""
    path = re.sub(
        r"^jit\(\w+\)/|(transpose\()?jvp\([^/]*\)+/|while/body/|eval_jaxpr/|closed_call/", "", scope
    )
    return path + (", back" if "transpose(jvp" in scope else "")


def computed_share(model: CLIPConfig, batch: Any) -> float:
    """Of the dense model's FLOPs, those that the step computes in a forward pass of this batch."""
    groups = [tokens.shape for tokens in jax.tree.leaves(batch["tokens"])]
    dense = sum(forward_flops(model).values())
    return sum(computed_flops(model, groups).values()) / dense


# --- the report


def report(profile: Profile, computed: float, folder: Path) -> None:
    """Print the tables, and write what they hold to folder/profile.json.

    computed: by computed_share.
    """
    console = Console(highlight=False)
    steps, milliseconds = profile.steps, profile.seconds * 1e3
    console.print(f"{steps} steps of {milliseconds:,.1f} ms; trace in {folder}", soft_wrap=True)
    console.print(
        f"{computed:.0%} of the dense model is computed: captions about as long as they are, and "
        "of last blocks one token",
        soft_wrap=True,
    )
    if profile.shares:
        console.print(shares_table(profile))
        console.print(longest_table(profile))
    else:
        console.print("the profiler did not see the devices; its own messages may say why")
    values = {
        "steps": steps,
        "seconds": profile.seconds,
        "computed": computed,
        "shares": [
            {"kind": kind, "part": part, "seconds": seconds}
            for (kind, part), seconds in profile.shares.items()
        ],
        "longest": [
            {"kind": kind, "scope": scope, "seconds": seconds}
            for kind, scope, seconds in profile.longest
        ],
    }
    (folder / "profile.json").write_text(json.dumps(values, indent=1) + "\n")


def shares_table(profile: Profile) -> Table:
    """Milliseconds of a step by kind and part."""
    table = Table(box=rich.box.SIMPLE_HEAD)
    table.add_column("ms a step", no_wrap=True)
    for column in (*PARTS, "together", ""):
        table.add_column(column, justify="right")

    def add(name: str, wanted: Callable[[str], bool]) -> None:
        cells = [
            sum(s for (k, p), s in profile.shares.items() if wanted(k) and p == part)
            for part in PARTS
        ]
        total = math.fsum(cells)
        texts = [f"{seconds * 1e3:,.2f}" if seconds else "" for seconds in (*cells, total)]
        table.add_row(name, *texts, f"{total / profile.seconds:.1%}")

    for kind in dict.fromkeys(kind for kind, _ in profile.shares):
        if any(seconds for (k, _), seconds in profile.shares.items() if k == kind):
            add(kind, lambda k, kind=kind: k == kind)  # type: ignore[misc]
    table.add_section()
    add("together", lambda k: True)
    return table


def longest_table(profile: Profile) -> Table:
    """The operations that took longest, those of one origin together."""
    table = Table("longest operations", "kind", box=rich.box.SIMPLE_HEAD)
    table.add_column("ms a step", justify="right")
    for kind, scope, seconds in profile.longest:
        table.add_row(scope, kind, f"{seconds * 1e3:,.2f}")
    return table
