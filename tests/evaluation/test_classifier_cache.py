"""Classifiers on disk: what is read again, what is built anew, and what cannot harm."""

import dataclasses

import jax
import numpy as np
import pytest

from clip_jax.evaluation import zeroshot
from clip_jax.evaluation.embed import on_all_devices
from clip_jax.evaluation.zeroshot import build_classifier

NAMES, TEMPLATES = ["cat", "red circle"], ["a photo of a {c}", "{c}"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "clip_jax" / "classifiers"


@pytest.fixture
def built(monkeypatch):
    """Counts how often a classifier is computed."""
    calls, average = [], zeroshot.average_prompts
    monkeypatch.setattr(zeroshot, "average_prompts", lambda *a: calls.append(1) or average(*a))
    return calls


def changed(model, tower):
    params = dict(model.params)
    params[tower] = jax.tree.map(lambda leaf: leaf + 1e-3, params[tower])
    return dataclasses.replace(model, params=params)


def test_the_same_prompts_and_text_tower_are_computed_once(model, folder, built):
    first = build_classifier(model, NAMES, TEMPLATES, cache=True)
    for same in (model, changed(model, "image"), on_all_devices(model)):
        np.testing.assert_array_equal(build_classifier(same, NAMES, TEMPLATES, cache=True), first)
    assert len(built) == 1
    assert len(list(folder.iterdir())) == 1


def test_whatever_changes_the_classifier_has_a_file_of_its_own(model, folder, built):
    bfloat16 = dataclasses.replace(model.compute, dtype="bfloat16")
    calls = [
        (model, NAMES, TEMPLATES),
        (model, NAMES[::-1], TEMPLATES),
        (model, ["cat", "circle"], TEMPLATES),
        (model, NAMES, TEMPLATES[:1]),
        (model, ["cat", "red circle", "cat", "fox"], TEMPLATES[1:]),  # as many prompts
        (model, NAMES, {"cat": ["cat"], "red circle": ["a fox", "a cat", "red"]}),
        (model, NAMES, {"cat": ["cat", "a fox", "a cat"], "red circle": ["red"]}),
        (changed(model, "text"), NAMES, TEMPLATES),
        (dataclasses.replace(model, compute=bfloat16), NAMES, TEMPLATES),
    ]
    rows = [build_classifier(*call, cache=True) for call in calls]
    assert len(built) == len(calls) == len(list(folder.iterdir()))
    again = [build_classifier(*call, cache=True) for call in calls]
    assert len(built) == len(calls)
    for one, other in zip(rows, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_damaged_files_are_built_anew(model, folder, built, damage):
    expected = build_classifier(model, NAMES, TEMPLATES, cache=True)
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    other = path.with_suffix(".other")
    np.savez(other.open("wb"), classifier=expected[:1])
    contents = {"cut": content[:-30], "flip": content, "empty": b"", "other": other.read_bytes()}
    path.write_bytes(contents[damage])
    for _ in range(2):
        found = build_classifier(model, NAMES, TEMPLATES, cache=True)
        np.testing.assert_array_equal(found, expected)
    assert len(built) == 2


def test_a_folder_that_cannot_be_written_is_no_error(model, tmp_path, monkeypatch, built):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        build_classifier(model, NAMES, TEMPLATES, cache=True)
    assert len(built) == 2


def test_nothing_is_written_unless_asked(model, folder, built):
    build_classifier(model, NAMES, TEMPLATES)
    assert not folder.exists()
