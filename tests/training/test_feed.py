"""Batches wait on the devices, not the devices for batches; bad samples are counted as used."""

import contextlib
import itertools
import time

import numpy as np
import pytest

from clip_jax.data.bad import REASONS, BadSample
from clip_jax.data.workers import Batch
from clip_jax.errors import InputError
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.training.feed import BadCount, as_reasons, on_devices
from clip_jax.training.lengths import LengthGroups

WHOLE = LengthGroups((1,), (3,))
"""One group of a device's single caption."""


def batches(seconds=0.0, log=None):
    """Numbered batches of 8, each so long in the making."""
    for number in itertools.count():
        time.sleep(seconds)
        if log is not None:
            log.append(number)
        images = np.full((8, 2, 2, 3), number, np.uint8)
        bad = np.zeros((8, len(REASONS)), np.int32)
        bad[3, number % 2] = number
        yield Batch(images, images[:, 0, 0], bad, [BadSample(REASONS[0], f"sample {number}")])


@pytest.fixture
def mesh():
    return make_mesh(MeshConfig())


def test_batches_come_in_order_as_global_arrays(mesh):
    with contextlib.closing(on_devices(batches(), mesh, WHOLE)) as feed:
        for number, (batch, bad, examples) in enumerate(itertools.islice(feed, 5)):
            assert set(batch) == {"images", "tokens"}
            assert len(batch["images"].sharding.device_set) == 8
            assert (np.asarray(batch["images"]) == number).all()
            assert np.asarray(bad).sum() == number
            assert examples[0].key == f"sample {number}"


def test_captions_that_do_not_fit_their_groups_come_at_full_length(mesh):
    short, long = [1, 9, 0, 0], [1, 2, 3, 9]
    tokens = np.array([[long, short] * 8, [long] * 16, [short] * 16], np.int32)
    given = (
        Batch(np.zeros((16, 2, 2, 3), np.uint8), rows, np.zeros((16, len(REASONS)), np.int32), [])
        for rows in itertools.chain(tokens, itertools.repeat(tokens[0]))
    )
    with contextlib.closing(on_devices(given, mesh, LengthGroups((1, 1), (2, 4)))) as feed:
        first, second, third = (batch for batch, _, _ in itertools.islice(feed, 3))
    assert set(second) == {"images", "tokens"}
    np.testing.assert_array_equal(second["tokens"], tokens[1])
    for batch, last in ((first, long), (third, short)):
        assert set(batch) == {"images", "tokens", "order"}
        np.testing.assert_array_equal(batch["tokens"][0], [short[:2]] * 8)
        np.testing.assert_array_equal(batch["tokens"][1], [last] * 8)
    np.testing.assert_array_equal(first["order"], [1, 0] * 8)


def test_two_batches_are_made_ahead_and_no_more(mesh):
    log = []
    with contextlib.closing(on_devices(batches(log=log), mesh, WHOLE)) as feed:
        next(feed)
        time.sleep(0.2)
        assert log == [0, 1, 2]
        next(feed)
        time.sleep(0.2)
        assert log == [0, 1, 2, 3]


def test_a_step_that_is_slower_than_the_input_never_waits(mesh):
    with contextlib.closing(on_devices(batches(seconds=0.01), mesh, WHOLE)) as feed:
        next(feed)
        waits = []
        for _ in range(10):
            time.sleep(0.05)
            start = time.perf_counter()
            next(feed)
            waits.append(time.perf_counter() - start)
    assert np.median(waits) < 0.005


def test_what_fails_while_reading_ahead_is_raised(mesh):
    def failing():
        yield from itertools.islice(batches(), 2)
        raise InputError("no more")

    with contextlib.closing(on_devices(failing(), mesh, WHOLE)) as feed:
        next(feed)
        with pytest.raises(InputError, match="no more"):
            next(feed)


def test_counts_go_on_from_those_of_a_checkpoint(mesh):
    count = BadCount(mesh, {"no_image": 5})
    with contextlib.closing(on_devices(batches(), mesh, WHOLE)) as feed:
        for _, bad, examples in itertools.islice(feed, 5):
            count.add(bad, examples)
    counts = as_reasons(count.total)
    assert counts == {REASONS[0]: 2 + 4, REASONS[1]: 5 + 1 + 3}
    count.check(counts, 40, max_share=0.0)  # too few to stop a run
    with pytest.raises(InputError, match="for example sample 0: "):
        count.check({"no_image": 1000}, 40, 0.1)
