"""Candidates for near-duplicates among millions of signatures, without looking at every pair.

A part of a picture is described by its low spatial frequencies. Each picture, whole, is looked up
among the parts of the others; only descriptions in the same or a neighbouring cell are compared.
A cell is the signs of the description's first principal components.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from clip_jax.data.workers import usable_cores
from clip_jax.evaluation.analyses.overlap.parts import SEARCHED, resampling
from clip_jax.evaluation.analyses.overlap.signature import FRAMES, SIDE

FREQUENCIES = 7
"""Waves along a side that are described: fewer than this many in both directions together."""
MOST_BITS, PER_CELL = 16, 64
"""There are at most 2 ** MOST_BITS cells, and no more than leaves each PER_CELL descriptions."""
UNCERTAIN_BITS = 6
"""A description is looked up as if each of its least certain signs could be either."""
CHUNK = 65536
"""Pictures of the gallery that are searched at once; their descriptions take 500 MB."""
BLOCK = 4096
"""Pictures that are described at once."""
SAMPLE = 4096
"""Pictures that the principal components are taken from."""
CANDIDATES = 24
"""Of each query, the most similar ones; a picture may be two of them, one by each frame."""
LEAST = 0.85
"""Cosine of descriptions below which two pictures are no candidates."""

PARTS_OF_FRAME = len(SEARCHED) ** 2
VIEWS = FRAMES * PARTS_OF_FRAME
"""Descriptions of a picture: the parts of both frames, the first of a frame is the whole."""
EVERY, WHOLE = 1, PARTS_OF_FRAME
"""Steps through the views of a picture."""
MATCH = np.dtype([("query", np.int64), ("gallery", np.int64), ("cosine", np.float32)])
"""Two similar views, by picture * VIEWS + view; mirrored queries come after all others."""


@dataclass(frozen=True)
class Candidates:
    """Pairs that may be duplicates: arrays [n]."""

    query: np.ndarray
    gallery: np.ndarray
    query_frame: np.ndarray
    gallery_frame: np.ndarray
    mirrored: np.ndarray
    """Whether the query is to be mirrored: bool."""
    query_inside: np.ndarray
    """Whether the query's frame is laid over a part of the gallery's, not the other way: bool."""
    height: np.ndarray
    """Which part of the height that is, a number in SEARCHED."""
    width: np.ndarray
    """Likewise of the width."""

    def __len__(self) -> int:
        return len(self.query)

    def __getitem__(self, chosen: np.ndarray) -> "Candidates":
        return Candidates(*(values[chosen] for values in vars(self).values()))


def find_candidates(
    queries: np.ndarray, gallery: np.ndarray, on_chunk: Callable[[int], None] = lambda done: None
) -> Candidates:
    """The most similar pictures of the gallery for each query, at most CANDIDATES.

    queries and gallery: signatures; the gallery may be mapped from disk. Of pictures in it that
    have the same signature, such as a web site's "not found", some are left out. on_chunk is called
    with the number of its pictures that are done.
    """
    describe = Describer(np.asarray(gallery["grey"][:: max(1, len(gallery) // SAMPLE)]))
    cells = Cells(describe.middle, min(CHUNK, len(gallery)) * VIEWS)
    grey = queries["grey"]
    views = describe(np.concatenate([grey, grey[..., ::-1]]))
    parts, whole = cells.shelve(views, EVERY), cells.shelve(views, WHOLE, UNCERTAIN_BITS)
    del views  # of many queries, gigabytes
    best = np.zeros(0, MATCH)
    for start in range(0, len(gallery), CHUNK):
        chunk = np.asarray(gallery[start : start + CHUNK])
        first = _first_of_copies(chunk)
        views, numbers = describe(chunk["grey"][first]), start + first
        found = [
            *_matches(whole, cells.shelve(views, EVERY), numbers),
            *_matches(parts, cells.shelve(views, WHOLE, UNCERTAIN_BITS), numbers),
        ]
        best = _best_of(np.concatenate([best, *found]), len(queries))
        on_chunk(len(chunk))
    picture, query_view = np.divmod(best["query"], VIEWS)
    other, gallery_view = np.divmod(best["gallery"], VIEWS)
    part = query_view % PARTS_OF_FRAME + gallery_view % PARTS_OF_FRAME  # one of them is the whole
    return Candidates(
        query=picture % len(queries),
        gallery=other,
        query_frame=query_view // PARTS_OF_FRAME,
        gallery_frame=gallery_view // PARTS_OF_FRAME,
        mirrored=picture >= len(queries),
        query_inside=query_view % PARTS_OF_FRAME == 0,
        height=part // len(SEARCHED),
        width=part % len(SEARCHED),
    )


def _first_of_copies(signatures: np.ndarray) -> np.ndarray:
    """Numbers of the signatures that none before equals: [n] int, ascending."""
    seen: dict[bytes, int] = {}
    for number, signature in enumerate(signatures):
        seen.setdefault(signature.tobytes(), number)
    return np.array(list(seen.values()))


def _matches(queries: "Shelves", gallery: "Shelves", numbers: np.ndarray) -> list[np.ndarray]:
    """Pairs of similar views in the same cell, as MATCH; numbers: of the gallery's pictures."""

    def in_cell(cell: int) -> np.ndarray | None:
        rows, ids = queries.take(cell)
        other_rows, other_ids = gallery.take(cell)
        cosines = rows @ other_rows.T
        near = cosines > LEAST
        if not near.any():
            return None
        row, column = np.nonzero(near)
        found = np.empty(len(row), MATCH)
        found["query"], found["cosine"] = ids[row], cosines[row, column]
        picture, view = np.divmod(other_ids[column], VIEWS)
        found["gallery"] = numbers[picture] * VIEWS + view
        return found

    def in_cells(cells: np.ndarray) -> list[np.ndarray]:
        return [found for cell in cells.tolist() if (found := in_cell(cell)) is not None]

    cells = np.flatnonzero(np.diff(queries.bounds) * np.diff(gallery.bounds))
    with ThreadPoolExecutor(usable_cores()) as pool:
        parts = pool.map(in_cells, np.array_split(cells, 64))
        return [found for part in parts for found in part]


def _best_of(matches: np.ndarray, queries: int) -> np.ndarray:
    """The best match of each two pictures, by each frame of the gallery's one, and of these the
    CANDIDATES best of each query."""
    picture, other = matches["query"] // VIEWS % queries, matches["gallery"] // PARTS_OF_FRAME
    order = np.lexsort([-matches["cosine"], other, picture])
    pair = np.stack([picture, other])[:, order]
    new = np.ones(len(order), bool)
    new[1:] = (pair[:, 1:] != pair[:, :-1]).any(axis=0)
    order = order[new]
    order = order[np.lexsort([-matches["cosine"][order], picture[order]])]
    start = np.searchsorted(picture[order], picture[order])
    return matches[order[np.arange(len(order)) - start < CANDIDATES]]


class Cells:
    """The space of descriptions, cut by the signs of their first components."""

    def __init__(self, middle: np.ndarray, rows: int):
        """middle: what is subtracted before signs are taken; rows: how many will be shelved."""
        bits = int(np.clip(np.log2(max(rows, 1) / PER_CELL), 0, MOST_BITS))
        self._middle = middle[:bits]

    def shelve(self, views: np.ndarray, step: int, uncertain: int = 0) -> "Shelves":
        """Descriptions [n, VIEWS, d], of each picture every `step`-th, sorted by their cell.

        Those of plain parts, too short to be like any, are left out. uncertain: how many of a
        description's least certain signs are taken both ways.
        """
        rows = views[:, ::step].reshape(-1, views.shape[2])
        full = np.flatnonzero(np.linalg.norm(rows, axis=1) > LEAST)
        rows = rows[full]
        cell = np.zeros(len(rows), np.int32)
        for bit, middle in enumerate(self._middle):
            cell |= (rows[:, bit] > middle).astype(np.int32) << bit
        cells = [cell]
        if uncertain:
            offsets = np.abs(rows[:, : len(self._middle)] - self._middle)
            for bit in np.argsort(offsets, axis=1)[:, :uncertain].T.astype(np.int32):
                cells += [other ^ (1 << bit) for other in cells]
        every = np.concatenate(cells)
        order = np.argsort(every, kind="stable")
        bounds = np.searchsorted(every[order], np.arange(2 ** len(self._middle) + 1))
        order %= max(1, len(rows))
        if not uncertain:  # each row is on one shelf, where it can lie beside its neighbours
            return Shelves(rows[order], full[order] * step, None, bounds)
        return Shelves(rows, full * step, order, bounds)


@dataclass(frozen=True)
class Shelves:
    """Descriptions by their cell."""

    rows: np.ndarray
    ids: np.ndarray
    """Picture * VIEWS + view of each row."""
    order: np.ndarray | None
    """Numbers of rows, those of cell 0 first; None if the rows are in this order."""
    bounds: np.ndarray
    """Where each cell begins in that order, and the last one ends."""

    def take(self, cell: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a cell and their ids."""
        own: slice | np.ndarray = slice(self.bounds[cell], self.bounds[cell + 1])
        if self.order is not None:
            own = self.order[own]
        return self.rows[own], self.ids[own]


class Describer:
    """Signatures -> descriptions, unit vectors along the principal components of some pictures."""

    def __init__(self, sample: np.ndarray):
        """sample: uint8 [n, FRAMES, SIDE, SIDE]."""
        self._waves = waves()
        rows = self(sample).reshape(-1, self._waves.shape[1])
        _, vectors = np.linalg.eigh(np.cov(rows.T))
        rotation = vectors[:, ::-1].T.astype(np.float32)
        self._waves = np.einsum("ij,vjp->vip", rotation, self._waves)
        self.middle = np.median(rows @ rotation.T, axis=0)

    def __call__(self, grey: np.ndarray) -> np.ndarray:
        """uint8 [n, FRAMES, SIDE, SIDE] -> float32 [n, VIEWS, d]."""
        views, size, _ = self._waves.shape
        waves = self._waves.reshape(views * size, -1).T
        described = np.empty((len(grey), FRAMES * views, size), np.float32)
        for start in range(0, len(grey), BLOCK):
            pixels = np.asarray(grey[start : start + BLOCK]).reshape(-1, SIDE * SIDE)
            rows = (pixels.astype(np.float32) / 255 @ waves).reshape(-1, FRAMES * views, size)
            length = np.sqrt(np.einsum("nvd,nvd->nv", rows, rows))
            np.divide(
                rows, np.maximum(length, 1e-2)[..., None], out=described[start : start + BLOCK]
            )
        return described


def waves() -> np.ndarray:
    """What describes the parts of a picture: float32 [parts, d, SIDE * SIDE].

    Cosines over the part, as in JPEG, without the constant one; fine waves count as much as coarse
    ones, which are stronger in nature.
    """
    numbers = np.arange(FREQUENCIES)
    places = (np.arange(SIDE) + 0.5) / SIDE
    cosines = np.cos(np.pi * numbers[:, None] * places) / SIDE
    sides = cosines @ resampling(np.array(SEARCHED), SIDE, SIDE)
    down, across = np.meshgrid(numbers, numbers, indexing="ij")
    kept = (down + across > 0) & (down + across < FREQUENCIES)
    weight = np.hypot(down, across)[kept]
    made = [
        np.einsum("is,jt->ijst", one, other)[kept].reshape(len(weight), -1) * weight[:, None]
        for one in sides
        for other in sides
    ]
    return np.stack(made).astype(np.float32)
