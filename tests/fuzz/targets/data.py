"""Shards and data sets."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from fuzz.target import Parser, reads_file, target
from fuzz.targets.pictures import PICTURE, decode_for_training
from shards import encode, solid, tar_bytes, write_multilabel, write_tar

from clip_jax.data.bad import BadSample, decoding, read_pair
from clip_jax.data.samples import PairSource
from clip_jax.data.sources.fields import FieldNames

FIELDS = FieldNames()


def read_pairs(source: PairSource) -> None:
    """A few pairs of a source, as training reads them: decoded, their captions drawn."""
    for index in range(min(len(source), 3)):
        try:
            pair = read_pair(source, index)
            with decoding(pair.key):
                decode_for_training(pair.image)
        except BadSample:
            continue


def shard(form: int) -> bytes:
    """A tar with a few pairs, one under a long name, and a member that is none."""
    long = "directory/" * 14
    return tar_bytes(
        [
            ("a/0001.png", PICTURE),
            ("a/0001.txt", b"a caption"),
            (f"{long}0002.png", PICTURE),
            (f"{long}0002.json", b'{"caption": ["one", "two"]}'),
            ("notes", b"nothing"),
        ],
        form,
    )


@target()
def tar(folder: Path) -> Parser:
    from clip_jax.data.sources.webdataset import WebDatasetPairs

    def read(path: Path) -> None:
        (folder / ".clip_jax_index.npz").unlink(missing_ok=True)
        read_pairs(WebDatasetPairs(str(path)))

    return [shard(tarfile.GNU_FORMAT), shard(tarfile.PAX_FORMAT)], reads_file(
        folder / "0.tar", read
    )


@target()
def tar_index(folder: Path) -> Parser:
    """The index beside shards, which are as it says."""
    from clip_jax.data.sources.webdataset import WebDatasetPairs

    write_tar(folder / "0.tar", [])
    (folder / "0.tar").write_bytes(shard(tarfile.PAX_FORMAT))
    read_pairs(WebDatasetPairs(str(folder)))
    path = folder / ".clip_jax_index.npz"
    return [path.read_bytes()], reads_file(path, lambda _: read_pairs(WebDatasetPairs(str(folder))))


@target(share=0.5)
def caption_json(folder: Path) -> Parser:
    """The .json of a sample."""
    from clip_jax.data.sources.webdataset import WebDatasetPairs

    def run(content: bytes) -> None:
        write_tar(folder / "0.tar", [("0.png", PICTURE), ("0.json", content)])
        (folder / ".clip_jax_index.npz").unlink(missing_ok=True)
        read_pairs(WebDatasetPairs(str(folder / "0.tar")))

    return [b'{"caption": "a text", "width": 10}', b'{"caption": ["one", "two", null]}'], run


@target()
def table(folder: Path) -> Parser:
    """A csv of pictures and captions."""
    from clip_jax.data.sources.csv_pairs import CsvPairs

    (folder / "a.png").write_bytes(PICTURE)
    rows = 'filepath\ttitle\na.png\ta caption\nmissing.png\t"two\nlines"\n\ta\n'
    return [rows.encode(), rows.encode("utf-16")], reads_file(
        folder / "pairs.csv", lambda path: read_pairs(CsvPairs(str(path), FIELDS))
    )


@target(share=0.3)
def parquet(folder: Path) -> Parser:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    from clip_jax.data.sources.parquet import ParquetPairs, _metadata, _read_group

    plain = pa.table({"jpg": [PICTURE, PICTURE], "caption": ["one", "two"]})
    nested = pa.table({"jpg": [{"bytes": PICTURE, "path": "a"}], "caption": [["one", "two"]]})
    seeds = []
    for about, compression in ((plain, "snappy"), (nested, "none"), (plain, "zstd")):
        file = io.BytesIO()
        write_table(about, file, compression=compression)
        seeds.append(file.getvalue())

    def read(path: Path) -> None:
        _metadata.cache_clear()
        _read_group.cache_clear()
        read_pairs(ParquetPairs(str(path), FIELDS))

    return seeds, reads_file(folder / "pairs.parquet", read)


@target(share=0.3)
def array_record(folder: Path) -> Parser:
    from clip_jax.data.sources.array_record import ArrayRecordPairs, ArrayRecordWriter

    path = folder / "pairs.array_record"
    with ArrayRecordWriter(path) as writer:
        for number in range(3):
            writer.write(encode(solid(number)), ("one", "two"))
    return [path.read_bytes()], reads_file(
        path, lambda path: read_pairs(ArrayRecordPairs(str(path), FIELDS))
    )


@target()
def example(folder: Path) -> Parser:
    """A record of an ArrayRecord file; a ValueError makes it a bad sample."""
    from clip_jax.data.samples import to_captions
    from clip_jax.data.sources.examples import pack, unpack

    def run(content: bytes) -> None:
        try:
            features = unpack(content)
        except ValueError as error:
            raise BadSample("unreadable", "record", error) from error
        to_captions(features.get("caption", []))

    return [pack({"image": [PICTURE], "caption": [b"one", b"two"]})], run


def benchmark_set(folder: Path, name: str, seeds: list[bytes]) -> Parser:
    """A multilabel set in CLIP_benchmark's layout, one of whose files is replaced."""
    from clip_jax.data.sources.spec import open_labelled

    root = write_multilabel(folder / "set", [(0, 1), (1, 0)])
    return [(root / name).read_bytes(), *seeds], reads_file(
        root / name, lambda _: open_labelled(f"wds:{root}", 16)
    )


@target(share=0.5)
def benchmark_classnames(folder: Path) -> Parser:
    return benchmark_set(folder, "classnames.txt", [])


@target(share=0.5)
def benchmark_templates(folder: Path) -> Parser:
    return benchmark_set(folder, "zeroshot_classification_templates.txt", [])


@target(share=0.5)
def benchmark_shards(folder: Path) -> Parser:
    return benchmark_set(folder, "test/nshards.txt", [b"12", b"999999999999"])


@target(share=0.5)
def benchmark_type(folder: Path) -> Parser:
    return benchmark_set(folder, "dataset_type.txt", [b"retrieval", b"classification"])


@target(share=0.5)
def label(folder: Path) -> Parser:
    """The .cls of a sample."""
    from clip_jax.data.sources.spec import open_labelled

    root = write_multilabel(folder / "set", [(0, 1)])
    (root / "dataset_type.txt").write_text("classification")

    def run(content: bytes) -> None:
        write_tar(root / "test" / "0.tar", [("0.png", PICTURE), ("0.cls", content)])
        open_labelled(f"wds:{root}", 16)

    return [b"0", b"1\n", b"17"], run


@target(share=0.5)
def labels(folder: Path) -> Parser:
    """The .npy of a sample."""
    from clip_jax.data.sources.spec import open_labelled

    root = write_multilabel(folder / "set", [(0, 1)])
    seeds = []
    for array in (np.array([0, 1]), np.array([True, False]), np.array([0.5, 1])):
        file = io.BytesIO()
        np.save(file, array)
        seeds.append(file.getvalue())
    file = io.BytesIO()
    np.savez(file, labels=np.array([0, 1]))

    def run(content: bytes) -> None:
        write_tar(root / "test" / "0.tar", [("0.png", PICTURE), ("0.npy", content)])
        open_labelled(f"wds:{root}", 16)

    return [*seeds, file.getvalue()], run


@target()
def detections(folder: Path) -> Parser:
    """Boxes in COCO's format."""
    from clip_jax.data.tools.captions import Wording, caption, read_detections

    (folder / "a.png").write_bytes(PICTURE)
    about = {
        "categories": [{"id": 0, "name": "traffic_light"}, {"id": 1, "name": "dog"}],
        "images": [{"id": 7, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [0, 1.5, 9, 9], "iscrowd": 0},
            {"image_id": 7, "category_id": 0, "bbox": [30, 20, 30, 20]},
        ],
    }

    def read(path: Path) -> None:
        for each in read_detections(path):
            if each.boxes:
                caption(each.boxes, Wording(positions=True))

    return [json.dumps(about).encode()], reads_file(folder / "boxes.json", read)


@target()
def folder_captions(folder: Path) -> Parser:
    """Roboflow's captions, a line for each folder of pictures."""
    from clip_jax.data.sources.folder import open_class_folders

    for name in ("cat", "hot_dog"):
        (folder / name).mkdir()
        (folder / name / "a.png").write_bytes(PICTURE)
    return [b"a cat\na hot dog\n", b"\xef\xbb\xbfa cat\r\na hot dog"], reads_file(
        folder / "_tokenization.txt", lambda _: open_class_folders(str(folder), FIELDS)
    )


@target()
def prompts(folder: Path) -> Parser:
    """Class names or templates in JSON."""
    from clip_jax.data.prompts import PromptFiles, check_templates, class_prompts

    names = ["cat", "dog"]
    forms = (names, {"set": ["a {c}"]}, {"set": {"cat": ["a cat"], "dog": ["a dog"]}})

    def read(path: Path) -> None:
        templates = PromptFiles(templates=str(path)).read_templates("set")
        assert templates is not None
        check_templates(str(path), names, templates)
        class_prompts(names, templates)

    return [json.dumps(form).encode() for form in forms], reads_file(folder / "t.json", read)
