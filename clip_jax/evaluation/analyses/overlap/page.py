"""The pairs that were found, as one HTML page that needs nothing else, for a person to judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from clip_jax.evaluation.page import html_page

OWN_STYLE = """
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 18px; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 6px; font-size: 12px; }
.pair p { grid-column: 1 / 3; margin: 0; }
"""


@dataclass(frozen=True)
class ShownPair:
    """A picture of an evaluation set and the one of the training data that looks the same."""

    score: float
    number: int
    """Of the picture in the evaluation set."""
    key: str
    """Where the other one is in the training data."""
    pictures: tuple[str, str]
    """JPEGs in base64, the evaluation set's first."""


@dataclass(frozen=True)
class ShownSet:
    """One evaluation set."""

    name: str
    facts: dict[str, str]
    above: Sequence[ShownPair]
    """Pairs that count, the most doubtful first."""
    below: Sequence[ShownPair]
    """Pairs that nearly count, the nearest first."""


def render_pairs(train: str, threshold: float, sets: Sequence[ShownSet]) -> str:
    """The page."""
    body = [
        f"<style>{OWN_STYLE}</style>",
        "<h1>Data overlap</h1>",
        f'<p class="soft">Pictures of the evaluation sets (left) that look the same as one of '
        f"{escape(train)} (right). Two count as the same from a score of {threshold:g} on; if the "
        "pairs next to this line say otherwise, move it with --threshold.</p>",
        _table(sets),
        *(_section(shown, threshold) for shown in sets),
    ]
    return html_page("Data overlap", "".join(body))


def _table(sets: Sequence[ShownSet]) -> str:
    head = "".join(f'<th class="number">{escape(name)}</th>' for name in sets[0].facts)
    rows = "".join(
        f'<tr><th scope="row">{escape(shown.name)}</th>'
        + "".join(f'<td class="number">{escape(value)}</td>' for value in shown.facts.values())
        + "</tr>"
        for shown in sets
    )
    return f'<div class="wide"><table><tr><th>data set</th>{head}</tr>{rows}</table></div>'


def _section(shown: ShownSet, threshold: float) -> str:
    parts = [f"<h2>{escape(shown.name)}</h2>"]
    for title, pairs in (
        (f"Counted, from {threshold:g} upwards", shown.above),
        (f"Not counted, from {threshold:g} downwards", shown.below),
    ):
        cells = "".join(map(_pair, pairs)) or '<p class="soft">none</p>'
        parts.append(f'<h3>{title}</h3><div class="pairs">{cells}</div>')
    return "".join(parts)


def _pair(pair: ShownPair) -> str:
    images = "".join(
        f'<figure><img alt="{about}" src="data:image/jpeg;base64,{picture}"></figure>'
        for about, picture in zip(("evaluated", "training"), pair.pictures, strict=True)
    )
    return (
        f'<div class="pair">{images}<p><b>{pair.score:.3f}</b> '
        f'<span class="soft">image {pair.number} · {escape(pair.key)}</span></p></div>'
    )
