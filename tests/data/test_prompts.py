"""Files of class names and prompts: every form that is read, and every one that is refused."""

import json

import numpy as np
import pytest

from clip_jax.data.prompts import (
    OWN_PROMPTS,
    PromptFiles,
    benchmark_keys,
    check_templates,
    class_prompts,
    read_labels,
    replace_prompts,
)
from clip_jax.data.samples import LabelledImages
from clip_jax.errors import InputError

NAMES = ["cat", "dog"]
OWN = {"cat": ["it purrs", "{c}"], "dog": ["it barks"]}


@pytest.fixture
def pets():
    return LabelledImages("wds_vtab-pets_test", [], np.array([0, 1]), NAMES, ["a {c}"])


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


@pytest.mark.parametrize("key", ["wds_vtab-pets_test", "vtab-pets", "vtab/pets", None])
@pytest.mark.parametrize("templates", [["one {c}", "two {c}"], OWN])
def test_templates_as_json(tmp_path, pets, templates, key):
    content = {key: templates, "imagenet1k": ["three {c}"]} if key else templates
    files = PromptFiles(templates=write(tmp_path / "t.json", content))
    assert replace_prompts(pets, files).templates == templates


def test_classnames_as_json(tmp_path, pets):
    for content in (["Katze", "Hund"], {"vtab/pets": ["Katze", "Hund"]}):
        files = PromptFiles(classnames=write(tmp_path / "c.json", content))
        replaced = replace_prompts(pets, files)
        assert replaced.classnames == ["Katze", "Hund"]
        assert replaced.templates == pets.templates


def test_lines(tmp_path, pets):
    files = PromptFiles(write(tmp_path / "c", "Katze\nHund\n"), write(tmp_path / "t", "ein {c}\n"))
    replaced = replace_prompts(pets, files)
    assert (replaced.classnames, replaced.templates) == (["Katze", "Hund"], ["ein {c}"])
    assert replace_prompts(pets, OWN_PROMPTS) == pets


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["a {c}", "a {}"], "t.json: template 'a {}' has no {c}"),
        ({"cat": ["cat"]}, "t.json: no prompts for class 'dog'"),
        ({"cat": ["cat"], "dog": []}, "t.json: holds nothing for wds_vtab-pets_test"),
        ({"cat": "cat", "dog": "dog"}, "t.json: holds nothing for"),
        ([], "t.json: holds nothing for"),
        ({}, "t.json: holds nothing for"),
        ("a {c}", "t.json: not JSON"),
    ],
)
def test_unfit_templates_are_refused(tmp_path, pets, content, message):
    files = PromptFiles(templates=write(tmp_path / "t.json", content))
    with pytest.raises(InputError) as caught:
        replace_prompts(pets, files)
    assert str(caught.value).startswith(f"{tmp_path}/{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["cat"], "c.json: 1 class names for the 2 classes"),
        ({"cat": ["cat"]}, "c.json: no class names of wds_vtab-pets_test"),
    ],
)
def test_unfit_classnames_are_refused(tmp_path, pets, content, message):
    files = PromptFiles(classnames=write(tmp_path / "c.json", content))
    with pytest.raises(InputError) as caught:
        replace_prompts(pets, files)
    assert str(caught.value).startswith(f"{tmp_path}/{message}")


@pytest.mark.parametrize("name", ["none", "none.json"])
def test_missing_files_are_named(tmp_path, pets, name):
    with pytest.raises(InputError, match=f"{name}: cannot be read"):
        replace_prompts(pets, PromptFiles(templates=str(tmp_path / name)))


def test_prompts_of_classes():
    assert class_prompts(["a b", "{c}"], ["{c}, {c}!", "{c} {0}"]) == [
        ["a b, a b!", "a b {0}"],
        ["{c}, {c}!", "{c} {0}"],
    ]
    assert class_prompts(["dog", "cat", "dog"], OWN) == [OWN["dog"], OWN["cat"], OWN["dog"]]


def test_names_of_clip_benchmark():
    assert benchmark_keys("wds_vtab-pets_test")[1:] == ["vtab-pets", "vtab/pets"]
    assert benchmark_keys("cars") == ["cars", "cars", "cars"]


@pytest.mark.parametrize(
    ("classnames", "templates"),
    [
        (["c" * 100_000], ["{c}" * 100_000]),  # ten billion characters
        (["c"] * 100_000, ["{c}"] * 100_000),
        (["c"], ["{c}" + "long" * 5000]),
    ],
)
def test_prompts_that_would_fill_memory_are_refused(classnames, templates):
    with pytest.raises(InputError, match="at most 10000000 of 10000 are taken"):
        check_templates("set", classnames, templates)


def test_a_template_itself_instead_of_a_file(pets):
    assert replace_prompts(pets, PromptFiles(templates="a {c}, drawn")).templates == [
        "a {c}, drawn"
    ]


def test_what_is_neither_a_file_nor_a_template(pets):
    with pytest.raises(InputError, match="a photo: cannot be read"):
        replace_prompts(pets, PromptFiles(templates="a photo"))
    with pytest.raises(InputError, match="and is no prompt either"):
        replace_prompts(pets, PromptFiles(templates="longer than a file's name " * 20))


def test_labels(tmp_path):
    assert read_labels("cat, big dog") == ["cat", "big dog"]
    many = [f"label number {number}" for number in range(30)]  # longer than a file's name can be
    assert read_labels(",".join(many)) == many
    assert read_labels(write(tmp_path / "labels.txt", "cat\nbig dog\n")) == ["cat", "big dog"]
    assert read_labels(write(tmp_path / "labels.json", ["cat", "big dog"])) == ["cat", "big dog"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("cat", "needs at least two labels, such as cat,dog"),
        ("cat,dog,", "one of them is empty"),
        ("cat,dog,cat", "'cat' is there more than once"),
    ],
)
def test_labels_that_cannot_be(labels, message):
    with pytest.raises(InputError, match=f"--labels {labels}: {message}"):
        read_labels(labels)
