"""Rankings of pictures as one HTML page that needs nothing else: thumbnails are inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from clip_jax.data.files import read_file
from clip_jax.data.images import UNREADABLE
from clip_jax.evaluation.page import html_page, thumbnail
from clip_jax.evaluation.pictures.show import printable

MOST = 1000
"""Pictures that a page shows of a ranking or group; what comes after them is counted."""


@dataclass(frozen=True)
class Hit:
    """A picture in a ranking."""

    file: str
    score: float


@dataclass(frozen=True)
class Ranking:
    """What was asked, and the pictures that answer it, the best one first."""

    query: str
    hits: list[Hit]


def render_page(title: str, about: str, rankings: Sequence[Ranking]) -> str:
    """The page: a section for each ranking. about: a line on what was searched."""
    sections = "".join(map(_section, rankings))
    body = f'<h1>{escape(title)}</h1><p class="soft">{escape(about)}</p>{sections}'
    return html_page(title, body)


def _section(ranking: Ranking) -> str:
    figures = "".join(map(_figure, ranking.hits[:MOST]))
    left = len(ranking.hits) - MOST
    more = f'<p class="soft">and {left} more</p>' if left > 0 else ""
    return f'<h2>{escape(printable(ranking.query))}</h2><div class="pictures">{figures}</div>{more}'


def _figure(hit: Hit) -> str:
    name = escape(printable(hit.file))
    try:
        picture = thumbnail(read_file(hit.file))
        image = f'<img alt="{name}" src="data:image/jpeg;base64,{picture}">'
    except UNREADABLE:  # gone since it was embedded
        image = '<p class="soft">cannot be read any more</p>'
    return (
        f'<figure title="{name}">{image}<figcaption><b>{hit.score:.3f}</b><br>'
        f'<span class="soft">{escape(printable(Path(hit.file).name))}</span></figcaption></figure>'
    )
