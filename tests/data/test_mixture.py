"""The order of pairs from one source and from several: complete, in shares, and by place alone."""

from collections import Counter

import numpy as np
import pytest

from clip_jax.data.images import Resize
from clip_jax.data.mixture import Mixture, draw_instead, endless_order
from clip_jax.data.pipeline import Batches
from clip_jax.data.samples import Pair
from clip_jax.errors import InputError


class Letters:
    """`count` pairs named after a letter."""

    def __init__(self, letter, count, problems=None):
        self._letter, self._count = letter, count
        self.problems = problems or {}

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        assert 0 <= index < self._count
        return Pair(f"{self._letter}{index}", b"", self.captions(index))

    def captions(self, index):
        return (f"caption of {self._letter}{index}",)


def keys(source, count, seed=0):
    order = endless_order(source, seed)
    return [source[order[place]].key for place in range(count)]


def test_a_mixture_is_one_source_after_the_other():
    mixture = Mixture([Letters("a", 3, {"x": 1}), Letters("b", 2, {"x": 2, "y": 1})])
    assert [mixture[i].key for i in range(len(mixture))] == ["a0", "a1", "a2", "b0", "b1"]
    assert [mixture.captions(i) for i in range(5)] == [mixture[i].captions for i in range(5)]
    assert mixture.problems == {"x": 3, "y": 1}


@pytest.mark.parametrize("source", [Letters("a", 12), Mixture([Letters("a", 5), Letters("b", 7)])])
def test_without_weights_every_pair_comes_once_an_epoch(source):
    order = keys(source, 36)
    for start in (0, 12, 24):
        assert len(set(order[start : start + 12])) == 12
    assert order[:12] != order[12:24]


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 5.5), (0.2, 0.3)])
def test_weights_are_shares_at_every_place(weights):
    """Of the first n pairs, each source has its share, give or take less than two."""
    mixture = Mixture([Letters("a", 10), Letters("b", 7)], weights)
    order = keys(mixture, 500)
    share = weights[0] / sum(weights)
    taken = np.cumsum([key[0] == "a" for key in order])
    assert np.abs(taken - share * np.arange(1, 501)).max() < 2


def test_no_source_repeats_a_pair_within_its_own_epoch():
    counts, weights = {"a": 10, "b": 7, "c": 23}, (1, 2, 4)
    mixture = Mixture([Letters(*item) for item in counts.items()], weights)
    order = keys(mixture, 400)
    for letter, count in counts.items():
        own = [key for key in order if key[0] == letter]
        epochs = [own[start : start + count] for start in range(0, len(own), count)]
        assert len(epochs) > 2
        assert all(len(set(epoch)) == len(epoch) for epoch in epochs)
        assert epochs[0] != epochs[1]


def test_what_stands_in_for_a_pair_is_of_the_same_part_where_parts_have_weights():
    rng, parts = np.random.default_rng(0), [Letters("a", 3), Letters("b", 2), Letters("c", 4)]
    weighted, plain = Mixture(parts, (1, 1, 8)), Mixture(parts)
    for index in range(9):
        drawn = {weighted[draw_instead(weighted, index, rng)].key for _ in range(100)}
        letter = weighted[index].key[0]
        assert drawn == {f"{letter}{n}" for n in range({"a": 3, "b": 2, "c": 4}[letter])}
        assert {draw_instead(plain, index, rng) for _ in range(200)} == set(range(9))


def test_the_order_is_a_function_of_seed_and_place():
    mixture = Mixture([Letters("a", 10), Letters("b", 7)], (1, 2))
    again = Mixture([Letters("a", 10), Letters("b", 7)], (1, 2))
    order, backwards = keys(mixture, 100), endless_order(again, 0)
    assert [again[backwards[place]].key for place in reversed(range(100))] == order[::-1]
    other = keys(mixture, 100, seed=1)
    assert other != order
    assert Counter(key[0] for key in other) == Counter(key[0] for key in order)


def test_far_places_can_be_asked_for():
    mixture = Mixture([Letters("a", 10), Letters("b", 7)], (1, 2))
    order = endless_order(mixture, 0)
    far = [mixture[order[10**12 + place]].key for place in range(90)]
    assert Counter(key[0] for key in far) == {"a": 30, "b": 60}


class NumberTokenizer:
    """A caption -> a row with its number."""

    context_length = 1

    def __call__(self, texts, truncate=False):
        return np.array([[int(text)] for text in texts], np.int32)


class Numbers(Letters):
    """Pictures of one colour, captioned by numbers."""

    def __init__(self, first, count):
        super().__init__("n", count)
        self._first = first

    def __getitem__(self, index):
        return Pair("", np.zeros((8, 8, 3), np.uint8), self.captions(index))

    def captions(self, index):
        return (str(self._first + index),)


def batches(**options):
    source = Mixture([Numbers(0, 10), Numbers(100, 7)], (1, 2))
    return Batches(source, NumberTokenizer(), Resize(8), batch_size=6, seed=0, **options)


def numbers(iterator, count):
    return [next(iterator).tokens[:, 0].tolist() for _ in range(count)]


def test_batches_of_a_mixture_can_start_anywhere_on_any_processes():
    whole = numbers(batches().start_at(0), 12)
    assert all(sum(number < 100 for number in batch) == 2 for batch in whole)
    assert numbers(batches(threads=4).start_at(5), 7) == whole[5:]
    halves = [numbers(batches(process=p, processes=2).start_at(3), 9) for p in range(2)]
    assert [first + second for first, second in zip(*halves, strict=True)] == whole[3:]


@pytest.mark.parametrize("weights", [(1,), (1, 2, 3), (1, 0), (1, -1), (1, float("inf"))])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(InputError, match=r"data\.weights"):
        Mixture([Letters("a", 10), Letters("b", 7)], weights)
