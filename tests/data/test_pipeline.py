"""The order of batches: complete, shuffled, and the same however the work is divided."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from corrupt import WRONG
from shards import encode, number_of, smooth, solid, write_pairs

from clip_jax.data.augment import Augment
from clip_jax.data.bad import REASONS
from clip_jax.data.images import Resize, load_image
from clip_jax.data.pipeline import Batches, image_batches
from clip_jax.data.samples import Pair
from clip_jax.data.sources.webdataset import WebDatasetPairs
from clip_jax.errors import InputError


class NumberTokenizer:
    """Captions "7" -> rows [98, 7, 99]."""

    vocab_size = 100
    context_length = 3

    def __call__(self, texts, truncate=False):
        return np.array([[98, int(text), 99] for text in texts], np.int32)


class Photographs:
    """Pairs of a picture in which every crop differs, and its number."""

    def __init__(self, count, broken=()):
        self._count = count
        self._broken = broken
        self._content = encode(smooth((40, 30)), "jpeg")

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        content = b"not an image" if index in self._broken else self._content
        return Pair(f"photographs:{index}", content, (str(index),))

    def captions(self, index):
        return (str(index),)


def batches(source, batch_size=4, **options):
    options = {"seed": 0, "augment": Augment(min_crop_area=0.3)} | options
    return Batches(source, NumberTokenizer(), Resize(8), batch_size=batch_size, **options)


def take(count, iterator):
    """The next batches as one: images and caption numbers."""
    parts = list(itertools.islice(iterator, count))
    images = np.concatenate([part.images for part in parts])
    return images, np.concatenate([part.tokens[:, 1] for part in parts])


def assert_equal(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)


def test_batches_are_pixels_and_tokens_that_belong_together(tmp_path):
    captions = [str(number) for number in range(10)]
    source = WebDatasetPairs(str(write_pairs(tmp_path / "a.tar", captions)))
    for batch in itertools.islice(batches(source).start_at(0), 5):
        assert batch.images.shape == (4, 8, 8, 3)
        assert batch.images.dtype == np.uint8
        assert batch.tokens.shape == (4, 3)
        assert batch.tokens.dtype == np.int32
        assert [number_of(image) for image in batch.images] == list(batch.tokens[:, 1])


@pytest.mark.parametrize("batch_size", [4, 5, 24])
def test_every_pair_comes_once_an_epoch(batch_size):
    pairs = 12
    _, order = take(10, batches(Photographs(pairs), batch_size).start_at(0))
    for start in range(0, len(order) - pairs + 1, pairs):
        assert sorted(order[start : start + pairs]) == list(range(pairs))


def test_epochs_and_seeds_are_shuffled_apart():
    pairs = 50
    orders = []
    for seed in (0, 1):
        _, order = take(4, batches(Photographs(pairs), 25, seed=seed).start_at(0))
        orders += [order[:pairs], order[pairs:]]
    for a, b in itertools.combinations([*orders, np.arange(pairs)], 2):
        assert (a != b).mean() > 0.5


def test_crops_differ_between_epochs():
    images, order = take(4, batches(Photographs(4)).start_at(0))
    shown = images[order == 2]
    assert len(shown) == 4
    assert all((a != b).any() for a, b in itertools.combinations(shown, 2))


def test_the_same_seed_gives_the_same_batches():
    source = Photographs(10)
    assert_equal(take(6, batches(source).start_at(0)), take(6, batches(source).start_at(0)))


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_do_not_matter(threads):
    source = Photographs(10)
    expected = take(6, batches(source, threads=2).start_at(0))
    assert_equal(take(6, batches(source, threads=threads).start_at(0)), expected)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_every_batch(processes):
    source, size = Photographs(10), 8
    parts = [
        batches(source, size, process=process, processes=processes).start_at(0)
        for process in range(processes)
    ]
    for whole in itertools.islice(batches(source, size).start_at(0), 4):
        shares = [next(part) for part in parts]
        for name in ("images", "tokens"):
            parts_of_it = [getattr(share, name) for share in shares]
            assert all(len(part) == size // processes for part in parts_of_it)
            np.testing.assert_array_equal(np.concatenate(parts_of_it), getattr(whole, name))


@pytest.mark.parametrize("start", [0, 1, 2, 3, 7, 11])
def test_a_run_can_start_anywhere(start):
    """Ten pairs in fours: batch 2 lies across the end of the first epoch."""
    source = Photographs(10)
    images, order = take(14, batches(source).start_at(0))
    expected = images[4 * start :], order[4 * start :]
    assert_equal(take(14 - start, batches(source).start_at(start)), expected)


def test_processes_can_start_anywhere_too():
    source = Photographs(10)
    _, order = take(6, batches(source).start_at(0))
    _, share = take(2, batches(source, process=1, processes=2).start_at(4))
    assert list(share) == [*order[18:20], *order[22:24]]


class Dirty(Photographs):
    """Of every 20 pairs one cannot be used, each for another of ten reasons."""

    def wrong(self, index):
        return WRONG[index // 20 % 10] if index % 20 == 3 else (None, None)

    def __getitem__(self, index):
        pair, (_, what) = super().__getitem__(index), self.wrong(index)
        if isinstance(what, Exception):
            raise what
        if isinstance(what, bytes):
            return replace(pair, image=what)
        return pair if what is None else replace(pair, captions=(what,))


def dirty(**options):
    return batches(Dirty(400), batch_size=32, **options)


def take_all(count, iterator):
    """Images, numbers and counts of the next batches, and their bad samples."""
    parts = list(itertools.islice(iterator, count))
    arrays = [[getattr(part, name) for part in parts] for name in ("images", "tokens", "bad")]
    return [*map(np.concatenate, arrays)], [part.examples for part in parts]


def test_bad_samples_are_replaced_and_counted_where_they_were():
    (images, tokens, bad), examples = take_all(60, dirty().start_at(0))
    clean = take(60, batches(Photographs(400), batch_size=32).start_at(0))
    wrong = [Dirty(400).wrong(number)[0] for number in clean[1]]
    is_wrong = np.array([reason is not None for reason in wrong])
    assert 90 <= is_wrong.sum() <= 102  # of 1,920
    np.testing.assert_array_equal(images[~is_wrong], clean[0][~is_wrong])
    np.testing.assert_array_equal(tokens[~is_wrong, 1], clean[1][~is_wrong])
    np.testing.assert_array_equal(bad.any(axis=1), is_wrong)
    for row, reason in zip(bad[is_wrong], filter(None, wrong), strict=True):
        assert row[REASONS.index(reason)] >= 1
    assert bad.sum() <= 1.15 * is_wrong.sum()  # with replacements that are bad themselves
    assert all(Dirty(400).wrong(number)[0] is None for number in tokens[:, 1])
    told = [sample for part in examples for sample in part]
    reasons = [sample.reason for sample in told]
    assert [reasons.count(reason) for reason in REASONS] == list(bad.sum(axis=0))
    number = {sample.reason: int(sample.key.split()[-1].split(":")[-1]) for sample in told}
    assert all(Dirty(400).wrong(n)[0] == reason for reason, n in number.items())


@pytest.mark.parametrize("start", [1, 7, 13])
@pytest.mark.parametrize(("threads", "processes"), [(1, 1), (3, 2), (2, 4)])
def test_bad_samples_change_no_order(start, threads, processes):
    whole, _ = take_all(16, dirty().start_at(0))
    shares = [
        take_all(16 - start, dirty(threads=threads, process=p, processes=processes).start_at(start))
        for p in range(processes)
    ]
    for position, expected in enumerate(whole):
        parts = [share[0][position] for share in shares]
        rows = [part.reshape(16 - start, -1, *part.shape[1:]) for part in parts]
        joined = np.concatenate(rows, axis=1)
        np.testing.assert_array_equal(joined.reshape(-1, *joined.shape[2:]), expected[32 * start :])


def test_nothing_but_bad_samples_is_refused():
    nothing = Photographs(4, broken=range(4))
    with pytest.raises(InputError, match=r"100 samples .* are bad; first photographs:\d: broken_i"):
        next(batches(nothing).start_at(0))


def test_few_batches_wait_to_be_used():
    """What is read ahead is bounded, however slowly it is used."""

    class Counting(Photographs):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            return super().__getitem__(index)

    source = Counting(10)
    iterator = batches(source, 64, threads=2).start_at(0)
    next(iterator)
    time.sleep(0.3)
    assert 64 <= source.reads <= 3 * 64
    iterator.close()


def test_pairs_without_any_caption_end_the_search_and_are_named():
    class Wordless(Photographs):
        def __getitem__(self, index):
            return replace(super().__getitem__(index), captions=())

    with pytest.raises(InputError, match=r"first photographs:\d: no_caption"):
        take(1, batches(Wordless(4)).start_at(0))


def test_flipping_mirrors_half_of_the_crops():
    source = Photographs(40)
    plain, order = take(20, batches(source).start_at(0))
    flipped, same_order = take(
        20, batches(source, augment=Augment(min_crop_area=0.3, flip=True)).start_at(0)
    )
    np.testing.assert_array_equal(order, same_order)
    kept = (flipped == plain).all(axis=(1, 2, 3))
    mirrored = (flipped == plain[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept != mirrored).all()
    assert 0.25 < mirrored.mean() < 0.75


def test_tags_are_sampled_into_batches():
    """Captions "0,50" to "9,59", of which the tokenizer here takes single numbers apart."""

    class Tags(Photographs):
        def __getitem__(self, index):
            return replace(super().__getitem__(index), captions=(f"{index},{index + 50}",))

    class FirstTag(NumberTokenizer):
        def __call__(self, texts, truncate=False):
            return super().__call__([text.split(",")[0] for text in texts])

    whole = replace(batches(Tags(10)), tokenizer=FirstTag())
    assert set(take(10, whole.start_at(0))[1]) == set(range(10))
    firsts = take(10, replace(whole, augment=Augment(prompt_share=1.0)).start_at(0))[1]
    assert set(firsts % 50) == set(range(10))
    assert 0.25 < (firsts >= 50).mean() < 0.75


def test_evaluation_images_come_once_in_order():
    images = [encode(solid(number)) for number in range(11)]
    parts = list(image_batches(images, Resize(8), 4))
    assert [part.shape for part, _ in parts] == [(4, 8, 8, 3), (4, 8, 8, 3), (3, 8, 8, 3)]
    assert [number_of(image) for part, _ in parts for image in part] == list(range(11))
    assert all(readable.all() and len(readable) == len(part) for part, readable in parts)


@pytest.mark.parametrize(
    ("count", "numbers"),
    [(11, [[0, 1, 2, 3, 8, 9, 10], [4, 5, 6, 7]]), (3, [[0, 1, 2], []]), (4, [[0, 1, 2, 3], []])],
)
def test_processes_take_turns_at_evaluation_images(count, numbers):
    images = [encode(solid(number)) for number in range(count)]
    for process, expected in enumerate(numbers):
        parts = image_batches(images, Resize(8), 4, process, processes=2)
        assert [number_of(image) for part, _ in parts for image in part] == expected


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
def test_evaluation_images_are_resized_as_told(mode):
    images = [encode(smooth(size), "jpeg") for size in ((40, 30), (10, 50))]
    resize = Resize(8, "bilinear", mode, fill=99)
    ((batch, _),) = image_batches(images, resize, 4)
    np.testing.assert_array_equal(batch, [resize(load_image(image)) for image in images])


def test_training_crops_are_interpolated_as_told():
    source = Photographs(4)
    cubic, order = take(1, batches(source).start_at(0))
    nearest = replace(batches(source), resize=Resize(8, "nearest"))
    pixels, same_order = take(1, nearest.start_at(0))
    np.testing.assert_array_equal(order, same_order)
    assert 0 < np.abs(pixels.astype(float) - cubic).mean() < 10


def test_unreadable_evaluation_images_are_marked_and_logged(caplog):
    long, jpeg = encode(solid(5, (60_000, 1))), encode(smooth((40, 30)), "jpeg")
    images = [encode(solid(0)), b"not an image", long, jpeg[: len(jpeg) // 2], encode(solid(4))]
    (first, second) = image_batches(images, Resize(224), 3)
    assert [*first[1], *second[1]] == [True, False, False, False, True]
    assert not first[0][1:].any()
    assert number_of(second[0][1]) == 4
    messages = sorted(record.getMessage() for record in caplog.records)
    for number, message in zip((1, 2, 3), messages, strict=True):
        assert message.startswith(f"image {number} of the set is unreadable (")
    assert "60000 x 1 is too elongated" in messages[1]
