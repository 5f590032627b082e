"""What is in a source: how many pairs, how large the pictures, how long the captions, what is bad.

It looks at some pairs, evenly spread, as training would meet them; nothing is changed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from clip_jax.data.bad import BadSample, decoding, read_pair
from clip_jax.data.images import load_image
from clip_jax.data.samples import PairSource
from clip_jax.data.sheet import Example, to_square
from clip_jax.data.video.frames import still_of

SHEET = 30
"""Pairs on a contact sheet."""
QUANTILES = {"least": 0, "5%": 5, "median": 50, "95%": 95, "most": 100}


@dataclass
class Findings:
    """What some pairs of a source are like."""

    pairs: int
    """Of the whole source."""
    left_out: dict[str, int]
    """What the source found unusable when it was opened, by reason."""
    looked_at: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    """Of these, the unusable ones by reason."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Formats and colour modes of pictures: "JPEG RGB"."""
    widths: list[int] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)
    kilobytes: list[float] = field(default_factory=list)
    captions: list[int] = field(default_factory=list)
    """How many a picture has."""
    lengths: list[int] = field(default_factory=list)
    """Of all captions, as `measure` counts."""
    examples: list[Example] = field(default_factory=list)


def inspect_pairs(source: PairSource, samples: int, measure: Callable[[str], int]) -> Findings:
    """Look at this many pairs, evenly spread. measure: caption -> its length."""
    chosen = _spread(len(source), samples)
    shown = set(np.array(chosen)[_spread(len(chosen), SHEET)].tolist())
    findings, console = Findings(len(source), dict(source.problems)), Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for index in progress.track(chosen, description="looking at pairs"):
            example = _look_at(source, index, findings, measure)
            if index in shown:
                findings.examples.append(example)
    return findings


def _spread(length: int, count: int) -> list[int]:
    count = min(length, count)
    return [i * length // count for i in range(count)]


def _look_at(
    source: PairSource, index: int, findings: Findings, measure: Callable[[str], int]
) -> Example:
    findings.looked_at += 1
    try:
        pair = read_pair(source, index)
        with decoding(pair.key):
            opened = load_image(still_of(pair.image))
            picture = opened.convert("RGB")
    except BadSample as sample:
        findings.bad[sample.reason] += 1
        return Example(None, f"{sample.reason}: {sample.key.rpartition('/')[2]}")
    findings.kinds[f"{opened.format or 'pixels'} {opened.mode}"] += 1
    findings.widths.append(picture.width)
    findings.heights.append(picture.height)
    if isinstance(pair.image, bytes):
        findings.kilobytes.append(len(pair.image) / 1000)
    findings.captions.append(len(pair.captions))
    findings.lengths += [measure(caption) for caption in pair.captions]
    return Example(to_square(picture), pair.captions[0])


def print_findings(findings: Findings, unit: str, longest: int | None, console: Console) -> None:
    """Tables of what was found. unit: of captions' lengths, of which a model takes `longest`."""
    console.print(f"{findings.pairs} pairs, of which {findings.looked_at} were looked at")
    for reason, count in sorted(findings.left_out.items()):
        console.print(f"left out before: {count} x {reason}")
    for reason, count in sorted(findings.bad.items()):
        console.print(f"bad: {count} x {reason} ({count / findings.looked_at:.2%})")
    if not findings.bad:
        console.print("bad: none")
    kinds = ", ".join(f"{count} {kind}" for kind, count in findings.kinds.most_common(8))
    console.print(f"pictures: {kinds or 'none that can be read'}")
    table = Table("", *QUANTILES, box=None)
    rows: dict[str, Sequence[float]] = {
        "width": findings.widths,
        "height": findings.heights,
        "kilobytes": findings.kilobytes,
        "captions a picture": findings.captions,
        f"{unit} a caption": findings.lengths,
    }
    for name, values in rows.items():
        if values:
            quantiles = np.percentile(values, list(QUANTILES.values()))
            table.add_row(name, *(f"{value:.0f}" for value in quantiles))
    console.print(table)
    if longest is not None and findings.lengths:
        share = np.mean(np.array(findings.lengths) > longest)
        console.print(f"captions over {longest} {unit}, which will be cut: {share:.2%}")
