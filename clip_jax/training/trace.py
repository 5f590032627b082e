"""Reads a profiler's trace: which operations each device ran when, and how they share its time.

Traces are in XSpace form, which jax.profiler writes and reads. A GPU's plane has a line for each
stream, a TPU's one named "XLA Ops"; on CPUs operations are events of the host's threads. Only CPU
traces have been read so far: the other two are as XLA's xplane_schema.cc describes them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jax.profiler import ProfileData

HOST = "/host:CPU"
_ACCELERATOR = re.compile(r"/device:[GT]PU:\d+")
_OPERATIONS = re.compile(r"XLA Ops|Stream.*")

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Span:
    """Something that ran."""

    name: str
    """The instruction of the compiled program, or a kernel that belongs to none."""
    start: float
    """Nanoseconds since the trace began."""
    end: float


def device_spans(data: ProfileData) -> dict[str, list[Span]]:
    """What each device of this process ran, by the device's name."""
    accelerators = {
        plane.name: [span for line in plane.lines for span in _spans(line)]
        for plane in data.planes
        if _ACCELERATOR.fullmatch(plane.name)
    }
    return accelerators or _cpu_spans(data)


def annotated(data: ProfileData, name: str) -> list[Span]:
    """The host's spans in a jax.profiler.TraceAnnotation of this name."""
    events = (event for event in _host_events(data) if event.name == name)
    return [Span(name, event.start_ns, event.end_ns) for event in events]


def _spans(line: Any) -> Iterator[Span]:
    if not _OPERATIONS.fullmatch(line.name):
        return
    for event in line.events:
        # A TPU's events are named by their instruction's text: "%fusion.1 = f32[8]{0} fusion(...".
        name = dict(event.stats).get("hlo_op") or event.name.partition(" = ")[0].lstrip("%")
        yield Span(name, event.start_ns, event.end_ns)


def _cpu_spans(data: ProfileData) -> dict[str, list[Span]]:
    """An operation's event ends when it has been handed to the thread pool; "end: ..." tells when
    it was done. Their stats _p and _c are the same number."""
    starts, ends = [], {}
    for event in _host_events(data):
        stats = dict(event.stats)
        if "hlo_op" in stats:
            starts.append((event, stats))
        elif event.name.startswith("end: "):
            ends[stats.get("_c")] = event.end_ns
    spans: dict[str, list[Span]] = defaultdict(list)
    for event, stats in starts:
        end = max(event.end_ns, ends.get(stats.get("_p"), 0))
        spans[f"CPU {stats['device_ordinal']}"].append(Span(stats["hlo_op"], event.start_ns, end))
    return spans


def _host_events(data: ProfileData) -> Iterator[Any]:
    for plane in data.planes:
        if plane.name == HOST:
            for line in plane.lines:
                yield from line.events


def time_shares(spans: Mapping[Kind, Iterable[Span]], window: Span) -> dict[Kind, float]:
    """Nanoseconds of the window that fall to each kind; together at most the window.

    Each moment counts once, for the first kind in order of which something runs.
    """
    covered, total, shares = np.zeros((0, 2)), 0.0, {}
    for kind, members in spans.items():
        times = np.array([(span.start, span.end) for span in members]).reshape(-1, 2)
        covered = _union(np.concatenate([covered, times.clip(window.start, window.end)]))
        before, total = total, float((covered[:, 1] - covered[:, 0]).sum())
        shares[kind] = total - before
    return shares


def _union(times: np.ndarray) -> np.ndarray:
    """[n, 2] starts and ends -> the same moments without overlaps, [m, 2] in order."""
    if len(times) == 0:
        return times
    times = times[times[:, 0].argsort(kind="stable")]
    reached = np.maximum.accumulate(times[:, 1])
    first = np.concatenate([[True], times[1:, 0] > reached[:-1]])
    last = np.concatenate([first[1:], [True]])
    return np.stack([times[first, 0], reached[last]], axis=1)
