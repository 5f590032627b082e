"""Texts packed into arrays."""

import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax.data.strings import Strings

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=8)


@settings(deadline=None)
@given(texts=TEXTS)
def test_texts_come_out_as_they_went_in(texts):
    packed = Strings.of(texts)
    assert [packed[i] for i in range(len(packed))] == texts
    again = pickle.loads(pickle.dumps(packed))
    assert [again[i] for i in range(len(again))] == texts


@settings(deadline=None)
@given(lists=st.lists(TEXTS, max_size=3), data=st.data())
def test_joined_and_cut_as_lists_are(lists, data):
    texts = [text for part in lists for text in part]
    joined = Strings.join([Strings.of(part) for part in lists])
    assert [joined[i] for i in range(len(joined))] == texts
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    part = joined.part(start, stop)
    assert [part[i] for i in range(len(part))] == texts[start:stop]


def test_file_names_of_any_bytes():
    name = os.fsdecode(b"caf\xe9.jpg")
    assert Strings.of([name])[0] == name


def test_what_is_not_there():
    packed = Strings.of(["a", "b"])
    for index in (-1, 2):
        with pytest.raises(IndexError):
            packed[index]


@pytest.mark.parametrize("ends", [[3, 2, 4], [1, 2], [5], [-1, 4]])
def test_ends_that_do_not_fit_are_refused(ends):
    with pytest.raises(ValueError, match="do not fit"):
        Strings(np.zeros(4, np.uint8), np.array(ends))
