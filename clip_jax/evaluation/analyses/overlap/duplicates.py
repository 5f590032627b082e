"""Near-duplicates of some pictures among many others, from their signatures."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import jax
import numpy as np

from clip_jax.evaluation.analyses.overlap.compare import Frames, compare, compare_at
from clip_jax.evaluation.analyses.overlap.search import Candidates, find_candidates
from clip_jax.evaluation.analyses.overlap.signature import FRAMES, shows_nothing

THRESHOLD = 0.7
"""Score from which two pictures count as the same; chosen on planted duplicates."""
ROUGHLY = 0.2
"""What edges fit by at least where a candidate was found, before it is compared in earnest."""
SHOWN_FROM = 0.4
"""Score from which a pair is kept, for a person to see what lies below the threshold."""
DOUBTFUL_BELOW = 0.8
"""Score below which a pair that is kept is looked at more thoroughly."""
BATCH = 256
"""Pairs that are compared at once."""


@dataclass(frozen=True)
class Duplicates:
    """Pairs of a query and a picture of the gallery that score at least SHOWN_FROM: arrays [n]."""

    query: np.ndarray
    gallery: np.ndarray
    score: np.ndarray
    """float32, 1 for the same picture; the best first."""


def find_duplicates(
    queries: np.ndarray, gallery: np.ndarray, on_chunk: Callable[[int], None] = lambda done: None
) -> Duplicates:
    """Signatures of the pictures in question and of those to look among -> the pairs found.

    on_chunk: as for find_candidates. Pictures of one colour are nobody's duplicates.
    """
    candidates = find_candidates(queries, gallery, on_chunk)
    candidates = candidates[np.flatnonzero(~shows_nothing(queries)[candidates.query])]
    candidates = candidates[fit_at_once(queries, gallery, candidates) >= ROUGHLY]
    score = score_candidates(queries, gallery, candidates)
    doubtful = np.flatnonzero((score >= SHOWN_FROM) & (score < DOUBTFUL_BELOW))
    score[doubtful] = score_all_ways(queries, gallery, candidates[doubtful])
    kept = np.argsort(-score, kind="stable")[: int((score >= SHOWN_FROM).sum())]
    pairs = np.stack([candidates.query[kept], candidates.gallery[kept]], axis=1)
    kept = kept[np.sort(np.unique(pairs, axis=0, return_index=True)[1])]
    return Duplicates(candidates.query[kept], candidates.gallery[kept], score[kept])


def fit_at_once(queries: np.ndarray, gallery: np.ndarray, candidates: Candidates) -> np.ndarray:
    """How well edges fit where the candidates were found: float32 [n]."""
    return _in_batches(
        candidates,
        lambda some: compare_at(*inner_and_outer(queries, gallery, some), some.height, some.width),
    )


def score_candidates(
    queries: np.ndarray, gallery: np.ndarray, candidates: Candidates
) -> np.ndarray:
    """How alike the two pictures of each candidate are: float32 [n]."""
    return _in_batches(
        candidates, lambda some: compare(*inner_and_outer(queries, gallery, some), some.height)
    )


def score_all_ways(queries: np.ndarray, gallery: np.ndarray, candidates: Candidates) -> np.ndarray:
    """As score_candidates, the best of either frame of each picture laid over either of the other.

    What a crop left of a border can hide the right frames from the search.
    """
    ways = [
        replace(
            candidates,
            query_frame=np.full(len(candidates), query_frame),
            gallery_frame=np.full(len(candidates), gallery_frame),
            query_inside=np.full(len(candidates), inside),
        )
        for query_frame, gallery_frame in product(range(FRAMES), repeat=2)
        for inside in (False, True)
    ]
    return np.max([score_candidates(queries, gallery, way) for way in ways], axis=0)


def inner_and_outer(
    queries: np.ndarray, gallery: np.ndarray, candidates: Candidates
) -> tuple[Frames, Frames]:
    """Of each candidate the frame that may be a part of the other, and the other."""
    query = _frames(queries[candidates.query], candidates.query_frame)
    query = _choose(candidates.mirrored, _mirror(query), query)
    other = _frames(gallery[candidates.gallery], candidates.gallery_frame)
    inside = candidates.query_inside
    return _choose(inside, query, other), _choose(inside, other, query)


def _in_batches(candidates: Candidates, score: Callable[[Candidates], jax.Array]) -> np.ndarray:
    """A score of each candidate; batches are of one size, so that it compiles once."""
    scores = np.zeros(len(candidates), np.float32)
    for start in range(0, len(scores), BATCH):
        batch = np.minimum(np.arange(start, start + BATCH), len(scores) - 1)
        scores[batch] = score(candidates[batch])
    return scores


def _frames(signatures: np.ndarray, frame: np.ndarray) -> Frames:
    """One frame of each signature."""
    n = np.arange(len(signatures))
    return Frames(signatures["grey"][n, frame], signatures["colour"][n, frame])


def _mirror(frames: Frames) -> Frames:
    return Frames(frames.grey[:, :, ::-1], frames.colour[:, :, ::-1])


def _choose(which: np.ndarray, one: Frames, other: Frames) -> Frames:
    """Of each two frames the first one, where `which` says so."""
    grey = np.where(which[:, None, None], one.grey, other.grey)
    return Frames(grey, np.where(which[:, None, None, None], one.colour, other.colour))
