"""Captions in groups by length: each complete, in few tokens, and back in their order."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax.parallel.mesh import MeshConfig, make_mesh, put_batch
from clip_jax.training.lengths import LengthGroups, in_order, plan_groups

END = 99


def tokens_of(lengths, context):
    """Rows of distinct captions with these lengths, the end token included."""
    rows = np.zeros((len(lengths), context), np.int32)
    for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        row[: length - 1] = number % (END - 1) + 1
        row[length - 1] = END
    return rows


@settings(deadline=None, max_examples=50)
@given(data=st.data(), shares=st.integers(1, 4))
def test_every_caption_is_whole_and_found_again(data, shares):
    groups = LengthGroups((2, 3, 1), (4, 8, 12))
    lengths = data.draw(st.lists(st.integers(2, 12), min_size=6 * shares, max_size=6 * shares))
    tokens = tokens_of(lengths, 12)
    arranged = groups.arrange(tokens)
    fits = all(
        np.sum(share > 4) <= 4 and np.sum(share > 8) <= 1
        for share in np.split(np.array(lengths), shares)
    )
    assert (arranged is not None) == fits
    if fits:
        assert [part.shape for part in arranged["tokens"]] == [
            (2 * shares, 4),
            (3 * shares, 8),
            (shares, 12),
        ]
        for share, order in enumerate(np.split(arranged["order"], shares)):
            rows = [
                np.pad(row, (0, 12 - len(row)))
                for part, n in zip(arranged["tokens"], groups.rows, strict=True)
                for row in part[share * n : (share + 1) * n]
            ]
            np.testing.assert_array_equal(np.array(rows)[order], tokens[share * 6 :][:6])


def test_rows_come_back_in_order_on_their_devices():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    tokens = tokens_of([2, 5, 3, 8, 8, 2, 2, 2, 4, 4, 4, 9, 2, 9, 2, 2], 9)
    arranged = put_batch(LengthGroups((2, 1, 1), (4, 5, 9)).arrange(tokens), mesh)
    firsts = [part[:, :1] for part in arranged["tokens"]]
    restored = jax.jit(lambda firsts, order: in_order(firsts, order, mesh))
    np.testing.assert_array_equal(restored(firsts, arranged["order"]), tokens[:, :1])
    assert "all-gather" not in restored.lower(firsts, arranged["order"]).compile().as_text()


def draw_lengths(count, seed):
    """Like those of captions from the web: 10 to 20 tokens, a few much longer."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.lognormal(2.6, 0.5, count).astype(int) + 2, 3, 77)


@pytest.mark.parametrize(("share", "at_most"), [(128, 0.5), (1024, 0.4)])
def test_realistic_captions_cost_a_fraction_and_fit(share, at_most):
    groups = plan_groups(draw_lengths(1000, seed=0), 77, share, 3)
    assert sum(groups.rows) == share
    assert groups.lengths[-1] == 77
    assert groups.tokens < at_most * share * 77
    fitting = [groups.arrange(tokens_of(draw_lengths(share, seed), 77)) for seed in range(1, 201)]
    assert None not in fitting


def test_few_rows_are_not_worth_groups():
    assert plan_groups(draw_lengths(1000, seed=0), 77, 8, 3) == LengthGroups((8,), (77,))


def test_one_group_is_the_whole_share_at_full_length():
    assert plan_groups(draw_lengths(1000, seed=0), 77, 512, 1) == LengthGroups((512,), (77,))


def test_no_plan_is_cheaper():
    """Against every choice of two lengths, with the margin recomputed here."""
    lengths, share = draw_lengths(1000, seed=3), 256
    found = plan_groups(lengths, 77, share, 2)
    costs = []
    for cut in range(8, 77, 8):
        p = (np.mean(lengths > cut) * 1000 + 1) / 1001
        rest = min(share, int(np.ceil(share * p + 5 * np.sqrt(share * p * (1 - p)))))
        costs.append((share - rest) * cut + rest * 77)
    assert found.tokens == min(costs)


def test_groups_are_cut_into_micro_batches():
    groups = plan_groups(draw_lengths(1000, seed=0), 77, 512, 3, parts=16)
    assert len(groups.rows) > 1
    assert all(rows % 16 == 0 for rows in groups.rows)
