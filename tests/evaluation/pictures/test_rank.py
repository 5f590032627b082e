"""Ranking and grouping by tiles, against all similarities in float64."""

import numpy as np
import pytest

from clip_jax.evaluation.pictures import rank
from clip_jax.evaluation.pictures.rank import largest, nearness, similar_groups, similarities


def unit_rows(count, width, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def products(rows, queries):
    return np.asarray(rows, np.float64) @ np.asarray(queries, np.float64).T


@pytest.fixture
def small_tiles(monkeypatch):
    for name, value in {"TILE": 32, "ACROSS": 16, "DOWN": 8}.items():
        monkeypatch.setattr(rank, name, value)


@pytest.mark.parametrize("count", [1, 8, 32, 75])
def test_similarities(small_tiles, count):
    rows, query = unit_rows(count, 24), unit_rows(1, 24, seed=1)[0].astype(np.float32)
    found = similarities(rows, query)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, products(rows, query), atol=1e-6)


def test_rows_may_be_mapped_from_a_disk(tmp_path):
    rows, query = unit_rows(50, 24), unit_rows(1, 24, seed=1)[0].astype(np.float32)
    rows.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float16, "r", shape=rows.shape)
    np.testing.assert_array_equal(similarities(mapped, query), similarities(rows, query))


def test_the_largest_of_many():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    for count in (1, 20, 1000, 5000):
        assert list(largest(values, count)) == list(np.argsort(-values)[:count])


def test_of_equal_ones_the_first():
    assert list(largest(np.array([1, 3, 2, 3, 3, 2], np.float32), 4)) == [1, 3, 4, 2]


@pytest.mark.parametrize("count", [2, 4, 60])
def test_nearness_to_the_nearest_others(small_tiles, count):
    rows, done = unit_rows(count, 6), []
    between = products(rows, rows)
    np.fill_diagonal(between, -np.inf)
    nearest = -np.sort(-between, axis=1)[:, : min(5, count - 1)]
    np.testing.assert_allclose(nearness(rows, done.append), nearest.mean(axis=1), atol=1e-6)
    assert sum(done) == count


def test_nearness_among_equal_pictures(small_tiles):
    rows = np.concatenate([np.tile(unit_rows(1, 6), (30, 1)), unit_rows(3, 6, seed=1)])
    between = products(rows, rows)
    np.fill_diagonal(between, -np.inf)
    expected = -np.sort(-between, axis=1)[:, :5].mean(axis=1)
    np.testing.assert_allclose(nearness(rows), expected, atol=1e-6)


def connected(reach):
    """Groups of two or more, by walking from each row."""
    left, groups = set(range(len(reach))), []
    while left:
        group, ahead = set(), [min(left)]
        while ahead:
            row = ahead.pop()
            if row not in group:
                group.add(row)
                ahead += list(np.flatnonzero(reach[row]))
        left -= group
        groups += [sorted(map(int, group))] if len(group) > 1 else []
    return sorted(groups, key=lambda group: (-len(group), group))


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_groups_of_similar_rows(small_tiles, threshold):
    rows, done = unit_rows(120, 4), []
    found = similar_groups(rows, threshold, done.append)
    assert [list(group) for group in found] == connected(products(rows, rows) >= threshold)
    assert sum(done) == 120


def test_a_chain_is_one_group(small_tiles):
    angles = np.arange(40) * 0.1
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    order = np.random.default_rng(0).permutation(40)
    assert [list(g) for g in similar_groups(rows[order], 0.99)] == [list(range(40))]
    assert similar_groups(rows[order], 0.999) == []


def test_equal_rows_are_one_group():
    rows = np.tile(unit_rows(1, 8), (2000, 1))
    assert [list(group) for group in similar_groups(rows, 0.99)] == [list(range(2000))]
