"""CLIP_benchmark's layout: what its files say, and what each kind of broken set gets."""

import io

import numpy as np
import PIL.Image
import pytest
from shards import (
    encode,
    solid,
    write_classification,
    write_multilabel,
    write_retrieval,
    write_tar,
)

from clip_jax.data.prompts import PromptFiles
from clip_jax.data.sources import clip_benchmark
from clip_jax.data.sources.clip_benchmark import open_classification, open_retrieval
from clip_jax.errors import InputError

LABELS = [2, 0, 1, 1, 0]
CAPTIONS = [["one"], ["two", "zwei", "deux"], ["three", "drei"]]


def np_bytes(array):
    """An array as a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def refusal(call, root):
    """The one line with which a set is refused."""
    with pytest.raises(InputError) as caught:
        call(str(root))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(root))
    return message.removeprefix(str(root))


@pytest.fixture
def pets(tmp_path):
    return write_classification(tmp_path / "pets", LABELS)


@pytest.fixture
def pictures(tmp_path):
    return write_retrieval(tmp_path / "pictures", CAPTIONS)


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_classification(tmp_path, shards):
    root = write_classification(
        tmp_path / "pets",
        LABELS,
        classnames=["cat", "hot dog", "Größe"],
        templates=["a photo of a {c}.", "{c}, {c}!"],
        shards=shards,
    )
    data = open_classification(str(root))
    assert data.name == "pets"
    assert data.classnames == ["cat", "hot dog", "Größe"]
    assert data.templates == ["a photo of a {c}.", "{c}, {c}!"]
    assert data.labels.tolist() == LABELS
    assert [data.images[i] for i in range(len(data.images))] == [
        encode(solid(i)) for i in range(len(LABELS))
    ]


def test_retrieval(pictures):
    data = open_retrieval(str(pictures))
    assert data.name == "pictures"
    assert data.captions == CAPTIONS
    assert [data.images[i] for i in range(len(data.images))] == [
        encode(solid(i)) for i in range(len(CAPTIONS))
    ]


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_pictures_of_other_modes_are_converted_before_they_are_resized(pets, mode):
    """As webdataset does, through which CLIP_benchmark reads."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 4), np.uint8)
    picture = PIL.Image.fromarray(pixels).convert("RGBA" if mode == "RGBA" else "RGB").convert(mode)
    content = encode(picture)
    write_tar(pets / "test" / "0.tar", [("0.png", content), ("0.cls", b"1"), ("1.cls", b"2")])
    write_tar(pets / "test" / "1.tar", [("1.png", content[:40]), ("1.cls", b"2")])
    images = open_classification(str(pets)).images
    np.testing.assert_array_equal(images[0], np.asarray(picture.convert("RGB")))
    assert images[1] == content[:40]  # unreadable, which is said where it is prepared


ROWS = [[0, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_multilabel(tmp_path):
    data = open_classification(str(write_multilabel(tmp_path / "voc", ROWS)))
    assert data.multilabel
    assert data.labels.dtype == bool
    assert data.labels.tolist() == ROWS
    assert [data.images[i] for i in range(3)] == [encode(solid(i)) for i in range(3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0 1 1", ": the .npy file is damaged"),
        (b"", ": the .npy file is damaged"),
        (np_bytes(np.array([{}])), ": the .npy file is damaged"),
        (np_bytes(np.zeros(2, int)), "one for each class, got int64 [2]"),
        (np_bytes(np.array([0, 1, 2])), ": labels must be 3 values 0 or 1"),
    ],
)
def test_unfit_rows_of_labels_are_refused(tmp_path, content, message):
    root = write_multilabel(tmp_path / "voc", ROWS)
    write_tar(root / "test/0.tar", [("x.png", encode(solid(0))), ("x.npy", content)])
    assert message in refusal(open_classification, root)


def test_files_stand_in_for_what_the_set_lacks(pets, tmp_path):
    (pets / "classnames.txt").unlink()
    (pets / "zeroshot_classification_templates.txt").unlink()
    (tmp_path / "names.txt").write_text("Katze\nHund\nBaum\n")
    (tmp_path / "prompts.json").write_text('["ein Bild: {c}"]')
    files = PromptFiles(str(tmp_path / "names.txt"), str(tmp_path / "prompts.json"))
    data = open_classification(str(pets), files)
    assert data.classnames == ["Katze", "Hund", "Baum"]
    assert data.templates == ["ein Bild: {c}"]
    (tmp_path / "names.txt").write_text("Katze\nHund")
    with pytest.raises(InputError, match=r"label b'2' is not .* \(0 to 1\)"):
        open_classification(str(pets), files)


def test_sets_on_the_hub(pets, monkeypatch):
    monkeypatch.setattr(clip_benchmark, "local_dataset", {"hf://org/wds_pets@v1": pets}.get)
    data = open_classification("hf://org/wds_pets@v1")
    assert (data.name, data.labels.tolist()) == ("wds_pets", LABELS)


def test_unknown_types_are_refused(pets):
    (pets / "dataset_type.txt").write_text("captioning")
    assert refusal(open_classification, pets) == (
        "/dataset_type.txt: holds 'captioning'; known are classification, multilabel, retrieval"
    )


def test_the_type_may_be_told_in_any_way(pets, pictures):
    (pets / "dataset_type.txt").write_text(" Classification \n")
    assert open_classification(str(pets)).labels.tolist() == LABELS
    (pictures / "dataset_type.txt").write_text("RETRIEVAL")
    assert open_retrieval(str(pictures)).captions == CAPTIONS


def test_samples_without_a_target_are_left_out(pets):
    members = [("0.png", encode(solid(0))), ("1.png", encode(solid(1))), ("1.cls", b"2")]
    write_tar(pets / "test" / "0.tar", members)
    (pets / "test" / "nshards.txt").write_text("1")
    data = open_classification(str(pets))
    assert (data.labels.tolist(), data.images[0]) == ([2], encode(solid(1)))


def test_the_other_task_is_pointed_to(pets, pictures):
    assert refusal(open_retrieval, pets) == (
        ": a classification set; evaluate it with eval.py zeroshot"
    )
    assert refusal(open_classification, pictures) == (
        ": a retrieval set; evaluate it with eval.py retrieval"
    )


@pytest.mark.parametrize(
    "name", ["classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt"]
)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, ": missing;"),
        (b"", ": is empty"),
        (b" \n\n", ": is empty"),
        (b"caf\xe9 {c}", ": is not UTF-8 text"),
        (b"1 {c}\n\n2 {c}\n", ": line 2 is blank"),
    ],
)
def test_unfit_lists_are_refused(pets, name, content, message):
    (pets / name).unlink()
    if content is not None:
        (pets / name).write_bytes(content)
    assert refusal(open_classification, pets).startswith(f"/{name}{message}")


@pytest.mark.parametrize("count", ["none", "0", "-1", "1.5", "²", "9" * 5000])
def test_a_number_of_shards_is_needed(pets, count):
    (pets / "test" / "nshards.txt").write_text(count)
    message = refusal(open_classification, pets)
    assert message == f"/test/nshards.txt: holds {count[:20]!r}, not a number of shards"


@pytest.mark.parametrize("count", ["3", "999999999"])
def test_missing_shards_are_named(pets, count):
    (pets / "test" / "nshards.txt").write_text(count)
    assert refusal(open_classification, pets) == "/test/2.tar: no such file"


def test_damaged_shards_are_errors(pets):
    shard = pets / "test" / "1.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:2000])
    assert refusal(open_classification, pets).startswith("/test/1.tar: the tar is cut off")
    shard.write_bytes(b"no tar")
    assert refusal(open_classification, pets).startswith("/test/1.tar: not a readable")


def test_templates_must_have_a_place_for_the_class(tmp_path):
    root = write_classification(tmp_path / "pets", LABELS, templates=["a {c}", "a photo of a {}"])
    message = refusal(open_classification, root)
    assert message == ": template 'a photo of a {}' has no {c} for the class name"


@pytest.mark.parametrize("label", ["3", "-1", "cat", "", "1.0", "²", "9" * 5000])
def test_labels_must_be_lines_of_classnames(tmp_path, label):
    root = write_classification(tmp_path / "pets", [0, label], shards=1)
    message = refusal(open_classification, root)
    assert message.startswith("/test/0.tar:s0001: label ")
    assert message.endswith("(0 to 2)")


@pytest.mark.parametrize("content", [[], [" ", ""]])
def test_caption_files_must_hold_captions(tmp_path, content):
    root = write_retrieval(tmp_path / "pictures", [["one"], content])
    message = refusal(open_retrieval, root)
    assert message == "/test/0.tar:s0001: the caption file holds no caption"


def test_blank_lines_are_no_captions(tmp_path):
    root = write_retrieval(tmp_path / "pictures", [["one", "", "eins", ""]])
    assert open_retrieval(str(root)).captions == [["one", "eins"]]


def test_sets_without_samples_are_refused(pets, pictures):
    for root, call, target in (
        (pets, open_classification, "cls"),
        (pictures, open_retrieval, "txt"),
    ):
        (root / "test" / "nshards.txt").write_text("1")
        write_tar(root / "test" / "0.tar", [("0.png", encode(solid(0)))])
        assert refusal(call, root) == f"/test: no sample with an image and a .{target} file"


def test_missing_sets_are_named(tmp_path):
    for call in (open_classification, open_retrieval):
        assert refusal(call, tmp_path / "none") == ": no such directory"
