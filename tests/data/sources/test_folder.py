"""Folders of picture files: captions from files beside them or from the classes' names."""

import os

import numpy as np
import pytest
from shards import encode, number_of, solid

from clip_jax.data.images import load_image
from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.sources.folder import (
    FolderPairs,
    find_pictures,
    open_class_folders,
    open_pictures,
)
from clip_jax.data.sources.spec import open_labelled
from clip_jax.errors import InputError


def put(root, *names):
    """Picture number i under each name."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(solid(number)))


def pixels(content):
    return np.asarray(load_image(content))


def test_class_folders_as_pairs(tmp_path):
    put(tmp_path, "dog/b.jpg", "hot_dog/deep/er/a.PNG", "dog/a.webp", "top.jpg", "dog/notes.md")
    pairs = FolderPairs(str(tmp_path), FieldNames(templates=("a {c}.", "{c}")))
    assert [os.path.relpath(pairs[i].key, tmp_path) for i in range(len(pairs))] == [
        "dog/a.webp",
        "dog/b.jpg",
        "hot_dog/deep/er/a.PNG",
    ]
    assert [number_of(pixels(pairs[i].image)) for i in range(3)] == [2, 0, 1]
    assert pairs[2].captions == pairs.captions(2) == ("a hot dog.", "hot dog")
    assert pairs.problems == {"no caption": 1}


def test_pictures_with_texts_beside_them(tmp_path):
    put(tmp_path, "a.jpg", "sub/b.png", "sub/c.png", "sub/d.png")
    (tmp_path / "a.txt").write_text(" größe \n")
    (tmp_path / "sub" / "b.txt").write_text("")
    (tmp_path / "sub" / "d.txt").write_bytes(b"caf\xe9")
    (tmp_path / "readme.txt").write_text("of no picture")
    pairs = FolderPairs(str(tmp_path), FieldNames())
    assert [pairs.captions(i) for i in range(len(pairs))] == [("größe",), (), ("caf�",)]
    assert pairs.problems == {"no caption": 1}


def test_other_texts_do_not_make_captions(tmp_path):
    put(tmp_path, "cat/a.jpg")
    (tmp_path / "cat" / "readme.txt").write_text("of no picture")
    assert FolderPairs(str(tmp_path), FieldNames()).captions(0) == ("a photo of a cat.",)


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    put(tmp_path, "cat/a.jpg", "cat/._a.jpg", ".git/b.jpg", "cat/.cache/c.jpg")
    assert len(FolderPairs(str(tmp_path), FieldNames())) == 1


def test_file_names_of_any_bytes(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    os.mkdir(os.fsencode(tmp_path) + b"/c\xe9")
    for path in (name, os.fsencode(tmp_path) + b"/c\xe9/\xff.jpg"):
        with open(path, "wb") as file:
            file.write(b"image")
    assert FolderPairs(str(tmp_path), FieldNames())[0].image == b"image"


def test_linked_class_folders_count(tmp_path):
    put(tmp_path, "elsewhere/a.jpg", "set/cat/b.jpg")
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "elsewhere")
    data = open_class_folders(str(tmp_path / "set"), FieldNames())
    assert (data.classnames, list(data.labels)) == (["cat", "dog"], [0, 1])


def test_links_in_a_circle_are_followed_once(tmp_path):
    put(tmp_path, "cat/a.jpg")
    (tmp_path / "cat" / "self").symlink_to(tmp_path / "cat")
    (tmp_path / "up").symlink_to(tmp_path)
    assert len(FolderPairs(str(tmp_path), FieldNames())) == 1


def test_class_folders_as_a_classification_set(tmp_path):
    put(tmp_path / "pets", "tabby_cat/1.jpg", "dog/2.jpg", "tabby_cat/0.jpg", "top.jpg")
    (tmp_path / "pets" / "empty").mkdir()
    data = open_class_folders(f"{tmp_path}/pets/", FieldNames())
    assert (data.name, data.classnames) == ("pets", ["dog", "tabby cat"])
    assert list(data.labels) == [0, 1, 1]
    assert data.templates == ["a photo of a {c}."]
    assert [number_of(pixels(data.images[i])) for i in range(len(data.images))] == [1, 2, 0]


def test_what_is_no_such_folder_is_refused(tmp_path):
    put(tmp_path / "flat", "a.jpg", "b.jpg")
    for root, message in [
        (tmp_path / "none", "no such directory"),
        (tmp_path / "flat" / "a.jpg", "no such directory"),
        ("gs://bucket/folder", "read from disk only"),
    ]:
        for call in (FolderPairs, open_class_folders):
            with pytest.raises(InputError, match=message):
                call(str(root), FieldNames())
    with pytest.raises(InputError, match=r"none of its 2 pictures .* has a \.txt beside it"):
        FolderPairs(str(tmp_path / "flat"), FieldNames())
    with pytest.raises(InputError, match="no folders of pictures"):
        open_class_folders(str(tmp_path / "flat"), FieldNames())


def test_pictures_that_are_devices_are_unreadable(tmp_path):
    put(tmp_path, "cat/a.jpg")
    (tmp_path / "cat" / "b.jpg").symlink_to("/dev/zero")
    pairs = FolderPairs(str(tmp_path), FieldNames())
    with pytest.raises(OSError, match="not a file"):
        pairs[1]


def test_pictures_that_cannot_be_opened_are_empty(tmp_path):
    put(tmp_path, "cat/a.jpg")
    (tmp_path / "cat" / "b.jpg").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "cat" / "c.jpg")
    images = open_pictures([str(tmp_path)])
    assert number_of(pixels(images[0])) == 0
    assert [images[1], images[2]] == [b"", b""]


def test_roboflow_s_captions_are_the_prompts(tmp_path):
    put(tmp_path, "test/dog/a.jpg", "test/Cat/b.jpg", "test/hot_dog/c.jpg")
    captions = tmp_path / "test" / "_tokenization.txt"
    captions.write_text("a cat\nthe dog {c}\n a sausage\n")
    data = open_labelled(f"folder:{tmp_path}", 32)
    assert data.classnames == ["Cat", "dog", "hot dog"]
    assert data.templates == {"Cat": ["a cat"], "dog": ["the dog {c}"], "hot dog": ["a sausage"]}
    captions.write_text("a cat\nthe dog\n")
    with pytest.raises(InputError, match=r"_tokenization.txt: 2 lines for 3 folders of pictures"):
        open_labelled(f"folder:{tmp_path}", 32)
    put(tmp_path, "test/hot dog/d.jpg")
    captions.write_text("a cat\nthe dog\na sausage\na hot animal\n")
    with pytest.raises(InputError, match="two folders beside it are called 'hot dog'"):
        open_labelled(f"folder:{tmp_path}", 32)


def test_pictures_as_they_lie(tmp_path):
    put(tmp_path, "a/1.jpg", "a/b/2.PNG", "c.webp", "notes.txt", "odd.tiff")
    found = open_pictures([f"{tmp_path}/odd.tiff", f"{tmp_path}/a", str(tmp_path)])
    names = [os.path.relpath(found.path(i), tmp_path) for i in range(len(found))]
    assert names == ["odd.tiff", "a/1.jpg", "a/b/2.PNG", "c.webp"]
    assert number_of(pixels(found[2])) == 1
    assert find_pictures(str(tmp_path)) == ["a/1.jpg", "a/b/2.PNG", "c.webp"]


def test_a_place_without_pictures(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no pictures \(jpg, jpeg, png, webp\)"):
        open_pictures([f"{tmp_path}/empty"])
    with pytest.raises(InputError, match="none: no such directory"):
        open_pictures([f"{tmp_path}/none"])
