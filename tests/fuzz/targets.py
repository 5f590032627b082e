"""Everything of ours that reads what others wrote: parsers by name, each with files that are fine.

A target makes its surroundings in a folder of its own and gives whole files, written by the
format's own writer, and a function that reads such a file. The function returns or raises one of
REFUSALS; anything else is a finding, and so are a crash, a hang, and memory beyond the limit.
"""

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from shards import encode, smooth, solid, tar_bytes, write_multilabel, write_tar

from clip_jax.data.bad import BadSample, decoding, read_pair
from clip_jax.data.samples import Image, PairSource
from clip_jax.data.sources.fields import FieldNames
from clip_jax.errors import InputError

REFUSALS = (InputError, BadSample)
"""What bad input becomes: one line, or one sample that is counted and replaced."""

Make = Callable[[Path], tuple[list[bytes], Callable[[bytes], object]]]

Layout = Literal["open_clip", "huggingface"]

GOLDEN = Path(__file__).parents[1] / "golden"
FIELDS = FieldNames()
CAPTIONS = ("a red circle above a blue square", "café &amp; crème", "日本語 &#38;", "")


@dataclass(frozen=True)
class Target:
    """One parser."""

    make: Make
    share: float = 1
    """Inputs in a campaign, as a multiple of what most targets get."""
    megabytes: int = 512
    """Memory that reading a small file may take, beyond what the process has."""


TARGETS: dict[str, Target] = {}


def target(share: float = 1, megabytes: int = 512) -> Callable[[Make], Make]:
    """Put a function into TARGETS under its own name."""

    def add(make: Make) -> Make:
        TARGETS[make.__name__] = Target(make, share, megabytes)
        return make

    return add


def reads_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A function that reads content through a file."""

    def run(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return run


# Weights


def read_tensors(path: Path) -> None:
    """Open a file of weights, and read its tensors."""
    from clip_jax.weights.tensors import open_tensors

    for tensor in open_tensors(path).values():
        assert tensor.read().shape == tensor.shape


@target(share=2)
def torch_file(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """Archives that torch wrote; one of them has a TorchScript module, one is a bare pickle."""
    seeds = [path.read_bytes() for path in sorted((GOLDEN / "torch_files").glob("*.pt"))]
    return seeds, reads_file(folder / "weights.pt", read_tensors)


@target(share=2)
def torch_pickle(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """The data.pkl of an archive, in an archive that is whole."""
    seeds = []
    for path in sorted((GOLDEN / "torch_files").glob("[!l]*.pt")):
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            seeds.append(archive.read(name))

    def run(content: bytes) -> None:
        with zipfile.ZipFile(folder / "weights.pt", "w") as archive:
            archive.writestr("archive/data.pkl", content)
            for key in range(20):
                archive.writestr(f"archive/data/{key}", bytes(200))
        read_tensors(folder / "weights.pt")

    return [*seeds, pickle.dumps({"a": [1, (2.5, "b")]}, protocol=2)], run


@target(share=2)
def safetensors(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    from safetensors.numpy import save

    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(0, np.float16)}
    seeds = [save(arrays), save({f"module.{name}": a for name, a in arrays.items()}, {"k": "v"})]
    return seeds, reads_file(folder / "weights", read_tensors)


@target()
def weights_index(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """The index of weights in shards, which lie beside it."""
    from safetensors.numpy import save_file

    for shard in "ab":
        save_file({shard: np.ones(3, np.float32)}, folder / f"{shard}.safetensors")
    index = {"metadata": {"total_size": 24}, "weight_map": {s: f"{s}.safetensors" for s in "ab"}}
    return [json.dumps(index).encode()], reads_file(folder / "model.json", read_tensors)


def write_model(folder: Path, layout: Layout) -> None:
    """The weights of ViT-tiny, all zero, in the names of a format."""
    from safetensors.numpy import save_file

    from clip_jax.models.clip import CLIP, init_variables
    from clip_jax.models.presets import PRESETS
    from clip_jax.weights.huggingface import huggingface_layout
    from clip_jax.weights.layout import write_tensors
    from clip_jax.weights.openai import openai_layout

    config = PRESETS["ViT-tiny"]
    shapes = jax.eval_shape(partial(init_variables, CLIP(config)), jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    if layout == "open_clip":
        tensors, name = write_tensors(openai_layout(config), zeros), "open_clip_model.safetensors"
    else:
        tensors, name = write_tensors(huggingface_layout(config), zeros), "model.safetensors"
    save_file(tensors, folder / name)


def open_clip_configs() -> list[bytes]:
    from clip_jax.models.presets import PRESETS
    from clip_jax.weights.open_clip import config_to_open_clip

    names = ("ViT-tiny", "RN-tiny", "ViT-B/32")
    return [json.dumps(config_to_open_clip(PRESETS[name], False)).encode() for name in names]


def huggingface_configs() -> tuple[bytes, bytes]:
    """config.json and preprocessor_config.json."""
    from clip_jax.models.presets import PRESETS
    from clip_jax.weights.huggingface import config_to_huggingface

    model, preprocessor = config_to_huggingface(PRESETS["ViT-tiny"])
    return json.dumps(model).encode(), json.dumps(preprocessor).encode()


def opens_model(path: Path) -> Callable[[bytes], object]:
    """A function that opens the model in the directory of a file, but does not read weights."""
    from clip_jax.weights.pretrained import open_pretrained

    return reads_file(path, lambda path: open_pretrained(path.parent, None))


@target()
def open_clip_config(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    write_model(folder, "open_clip")
    return open_clip_configs(), opens_model(folder / "open_clip_config.json")


@target()
def huggingface_config(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    write_model(folder, "huggingface")
    return [huggingface_configs()[0]], opens_model(folder / "config.json")


@target()
def huggingface_preprocessor(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    write_model(folder, "huggingface")
    model, preprocessor = huggingface_configs()
    (folder / "config.json").write_bytes(model)
    return [preprocessor], opens_model(folder / "preprocessor_config.json")


@target(share=0.01)
def read_with_config(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """Weights that are compared with what a config makes of them."""
    from clip_jax.weights.pretrained import open_pretrained

    write_model(folder, "open_clip")
    path = folder / "open_clip_config.json"
    return open_clip_configs(), reads_file(
        path, lambda path: open_pretrained(path.parent, None).read()
    )


@target()
def workdir_config(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """What a checkpoint of train.py says of its model."""
    from clip_jax.models.presets import PRESETS
    from clip_jax.weights.workdir import config_from_json, config_to_json

    seeds = [json.dumps(config_to_json(PRESETS[n])).encode() for n in ("RN-tiny", "ViT-B/32")]
    return seeds, lambda content: config_from_json(parsed(content), "workdir")


def parsed(content: bytes) -> object:
    """The JSON in a file; what is none is refused here, as by Orbax."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError("not JSON") from error


# Shards and data sets


def read_pairs(source: PairSource) -> None:
    """A few pairs of a source, as training reads them: decoded, their captions drawn."""
    for index in range(min(len(source), 3)):
        try:
            pair = read_pair(source, index)
            with decoding(pair.key):
                decode_for_training(pair.image)
        except BadSample:
            continue


def decode_for_training(image: Image) -> None:
    from clip_jax.data.images import Resize, random_crop

    assert random_crop(image, Resize(8), 0.5, np.random.default_rng(0)).shape == (8, 8, 3)


PICTURE = encode(solid(1))


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
def tar(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    from clip_jax.data.sources.webdataset import WebDatasetPairs

    def read(path: Path) -> None:
        (folder / ".clip_jax_index.npz").unlink(missing_ok=True)
        read_pairs(WebDatasetPairs(str(path)))

    return [shard(tarfile.GNU_FORMAT), shard(tarfile.PAX_FORMAT)], reads_file(
        folder / "0.tar", read
    )


@target()
def tar_index(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """The index beside shards, which are as it says."""
    from clip_jax.data.sources.webdataset import WebDatasetPairs

    write_tar(folder / "0.tar", [])
    (folder / "0.tar").write_bytes(shard(tarfile.PAX_FORMAT))
    read_pairs(WebDatasetPairs(str(folder)))
    path = folder / ".clip_jax_index.npz"
    return [path.read_bytes()], reads_file(path, lambda _: read_pairs(WebDatasetPairs(str(folder))))


@target(share=0.5)
def caption_json(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """The .json of a sample."""
    from clip_jax.data.sources.webdataset import WebDatasetPairs

    def run(content: bytes) -> None:
        write_tar(folder / "0.tar", [("0.png", PICTURE), ("0.json", content)])
        (folder / ".clip_jax_index.npz").unlink(missing_ok=True)
        read_pairs(WebDatasetPairs(str(folder / "0.tar")))

    return [b'{"caption": "a text", "width": 10}', b'{"caption": ["one", "two", null]}'], run


@target()
def table(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """A csv of pictures and captions."""
    from clip_jax.data.sources.csv_pairs import CsvPairs

    (folder / "a.png").write_bytes(PICTURE)
    rows = 'filepath\ttitle\na.png\ta caption\nmissing.png\t"two\nlines"\n\ta\n'
    return [rows.encode(), rows.encode("utf-16")], reads_file(
        folder / "pairs.csv", lambda path: read_pairs(CsvPairs(str(path), FIELDS))
    )


@target(share=0.3)
def parquet(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
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
def array_record(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    from clip_jax.data.sources.array_record import ArrayRecordPairs, ArrayRecordWriter

    path = folder / "pairs.array_record"
    with ArrayRecordWriter(path) as writer:
        for number in range(3):
            writer.write(encode(solid(number)), ("one", "two"))
    return [path.read_bytes()], reads_file(
        path, lambda path: read_pairs(ArrayRecordPairs(str(path), FIELDS))
    )


@target()
def example(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
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


def benchmark_set(folder: Path, name: str, seeds: list[bytes]) -> tuple[list[bytes], Callable]:
    """A multilabel set in CLIP_benchmark's layout, one of whose files is replaced."""
    from clip_jax.data.sources.spec import open_labelled

    root = write_multilabel(folder / "set", [(0, 1), (1, 0)])
    return [(root / name).read_bytes(), *seeds], reads_file(
        root / name, lambda _: open_labelled(f"wds:{root}", 16)
    )


@target(share=0.5)
def benchmark_classnames(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    return benchmark_set(folder, "classnames.txt", [])


@target(share=0.5)
def benchmark_templates(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    return benchmark_set(folder, "zeroshot_classification_templates.txt", [])


@target(share=0.5)
def benchmark_shards(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    return benchmark_set(folder, "test/nshards.txt", [b"12", b"999999999999"])


@target(share=0.5)
def benchmark_type(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    return benchmark_set(folder, "dataset_type.txt", [b"retrieval", b"classification"])


@target(share=0.5)
def label(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """The .cls of a sample."""
    from clip_jax.data.sources.spec import open_labelled

    root = write_multilabel(folder / "set", [(0, 1)])
    (root / "dataset_type.txt").write_text("classification")

    def run(content: bytes) -> None:
        write_tar(root / "test" / "0.tar", [("0.png", PICTURE), ("0.cls", content)])
        open_labelled(f"wds:{root}", 16)

    return [b"0", b"1\n", b"17"], run


@target(share=0.5)
def labels(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
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
def prompts(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
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


# Texts and vocabularies


def bpe_file(folder: Path, name: str) -> tuple[list[bytes], Callable]:
    """A byte-pair vocabulary's directory, one of whose files is replaced."""
    from clip_jax.data.text.bpe import BPETokenizer
    from clip_jax.data.text.vocabulary import open_tokenizer

    merges = [("a", "b"), ("ab", "c</w>"), ("t", "h"), ("th", "e</w>")]
    BPETokenizer(merges).save(folder)
    if name != "tokenizer.json":
        (folder / "tokenizer.json").unlink()

    def read(path: Path) -> None:
        open_tokenizer(folder, 16)(["the abc, ab"], truncate=True)

    return [(folder / name).read_bytes()], reads_file(folder / name, read)


@target()
def merges(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    from clip_jax.data.text.vocabulary import open_tokenizer

    seeds, _ = bpe_file(folder, "merges.txt")
    path = folder / "some_merges.txt"
    return [*seeds, b"a b\nab c\n"], reads_file(path, lambda path: open_tokenizer(path, 16)("abc"))


@target()
def merges_gzip(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    from clip_jax.data.text.vocabulary import open_tokenizer

    texts = (b"#version: 0.2\na b\nab c\n", b'"bpe_simple_vocab_16e6.txt#version: 0.2\na b\n')
    path = folder / "bpe_simple_vocab.txt.gz"
    return [gzip.compress(text) for text in texts], reads_file(
        path, lambda path: open_tokenizer(path, 16)("abc")
    )


@target()
def vocab_json(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    return bpe_file(folder, "vocab.json")


@target()
def tokenizer_json(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    return bpe_file(folder, "tokenizer.json")


@target(share=2)
def sentencepiece(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    from clip_jax.data.text.tokenizers import train_sentencepiece
    from clip_jax.data.text.vocabulary import open_tokenizer

    model = train_sentencepiece(CAPTIONS, 64, 16).model
    path = folder / "tokenizer.model"
    return [model], reads_file(
        path, lambda path: open_tokenizer(path, 16)(["a red circle", "é"], truncate=True)
    )


@target(share=2)
def caption_bpe(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    from clip_jax.data.samples import to_captions
    from clip_jax.data.text.bpe import BPETokenizer

    tokenizer = BPETokenizer([("a", "b"), ("t", "h"), ("th", "e</w>")], 16)
    seeds = [
        caption.encode() for caption in (*CAPTIONS, "l\u2019été â€œmojibakeâ€", "&amp;#38;#x26;")
    ]
    return seeds, lambda content: tokenizer(to_captions(content), truncate=True)


@target(share=2)
def caption_sentencepiece(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    from clip_jax.data.samples import to_captions
    from clip_jax.data.text.tokenizers import train_sentencepiece

    tokenizer = train_sentencepiece(CAPTIONS, 64, 16)
    seeds = [caption.encode() for caption in (*CAPTIONS, "&amp;#38; ½ ﬁ", "👩‍👩‍👧 \u0301")]
    return seeds, lambda content: tokenizer(to_captions(content), truncate=True)


# Pictures


def pictures() -> list[bytes]:
    """A small picture in every format that is read, and in several colour modes."""
    picture = smooth((40, 24))
    grey, alpha, palette = (picture.convert(mode) for mode in ("L", "RGBA", "P"))
    frames = {"save_all": True, "append_images": [solid(2, (40, 24))]}
    return [
        *(encode(picture, form) for form in ("jpeg", "png", "webp", "gif", "bmp", "ppm", "tiff")),
        *(encode(picture, form) for form in ("avif", "jpeg2000")),
        encode(picture, "jpeg", progressive=True, quality=60),
        encode(picture.convert("CMYK"), "jpeg"),
        encode(grey, "jpeg"),
        encode(palette, "png"),
        encode(alpha, "png"),
        encode(alpha, "webp", lossless=True),
        encode(picture.convert("I;16"), "png"),
        encode(picture, "tiff", compression="tiff_lzw"),
        encode(picture, "tiff", compression="tiff_adobe_deflate"),
        *(encode(palette, form, **frames) for form in ("gif", "png")),
        encode(picture, "webp", **frames),
    ]


@target(share=3, megabytes=3072)
def picture_training(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    def run(content: bytes) -> None:
        with decoding("picture"):
            decode_for_training(content)

    return pictures(), run


@target(share=3, megabytes=3072)
def picture_evaluation(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    from clip_jax.data.images import Resize, load_image
    from clip_jax.data.sources.clip_benchmark import without_alpha

    def run(content: bytes) -> None:
        with decoding("picture"):
            Resize(8)(load_image(without_alpha(content)))

    return pictures(), run


# Files of our own, which others may have written


@target()
def metrics(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    from clip_jax.training.metrics import read_metrics

    lines = b'{"step": 1, "loss": 2.5, "logit_scale": 14.3}\n{"step": 2, "loss": NaN}\n'
    return [lines], reads_file(folder / "metrics.jsonl", read_metrics)


@target()
def kept_result(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """What a suite takes instead of evaluating again, up to the page that shows it."""
    from dataclasses import asdict

    from clip_jax.evaluation.results import Result
    from clip_jax.evaluation.suite.analysis import Analysis, Bin, Evaluation, Mistake
    from clip_jax.evaluation.suite.report import render_report
    from clip_jax.evaluation.suite.run import print_summary, read_kept

    bins, mistakes = [Bin(2, 0.5, 1.0)], [Mistake(0, "cat", "dog", 0.9, "AAAA")]
    analysis = Analysis(["cat", "dog"], [[0, 0, 2], [0, 1, 1]], bins, mistakes)
    result = Result("set", "zeroshot_classification", {"acc1": 0.5}, "model", notes={"chance": 0.5})
    seeds = [{"key": {}, **asdict(Evaluation(result, 3, shown))} for shown in (analysis, None)]

    def read(path: Path) -> None:
        kept = read_kept(path, {})
        if kept is not None:
            render_report({"model": [kept]})
            print_summary({"model": [kept]})

    return [json.dumps(seed).encode() for seed in seeds], reads_file(folder / "kept.json", read)


@target()
def cached_arrays(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    from clip_jax.evaluation.classifier_cache import read_arrays, write_arrays

    path = folder / "cache.npz"
    write_arrays(path, rows=np.ones((3, 4), np.float32), readable=np.ones(3, np.float32))
    shapes = {"rows": (3, 4), "readable": (3,)}
    return [path.read_bytes()], reads_file(path, lambda path: read_arrays(path, shapes))


@target()
def baseline(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """Accuracies of other models, in JSON and as a table."""
    from clip_jax.evaluation.robustness.shift import read_baseline

    rows = [{"model": "m", "dataset": "d", "reference": 0.5, "shifted": "0.25"}]
    text = b"model,dataset,reference,shifted\nm,d,0.5,0.25\n"

    def run(content: bytes) -> None:
        path = folder / ("b.json" if content[:1] in b"[{" else "b.csv")
        path.write_bytes(content)
        read_baseline(path)

    return [json.dumps(rows).encode(), text], run


def picture_index(folder: Path, name: str) -> tuple[list[bytes], Callable[[bytes], object]]:
    """The index of a search, one of whose files is replaced."""
    from clip_jax.evaluation.pictures.index import About, PictureIndex

    (folder / "a.png").write_bytes(PICTURE)
    index = PictureIndex.create(folder / "index", About(str(folder), "model", 4))
    rows = np.ones((2, 4), np.float32)
    index.add([("a.png", "1"), ("gone.png", "2")], lambda images: (rows, np.arange(2)))

    def read(path: Path) -> None:
        opened = PictureIndex.open(folder / "index")
        for row in range(len(opened)):
            opened.file(row)
        assert opened.rows.sum() >= 0
        assert opened.unreadable == []

    path = folder / "index" / name
    return [path.read_bytes()], reads_file(path, read)


@target()
def picture_index_header(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    return picture_index(folder, "index.json")


@target()
def picture_index_lines(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    return picture_index(folder, "files-0.jsonl")


# What is typed


@target(share=0.01)
def arguments(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """Options of train.py, one a line."""
    from clip_jax.commandline import parse
    from clip_jax.models.presets import PRESETS
    from clip_jax.training.config import TrainConfig, check_train_config
    from clip_jax.training.optimizer import OptimizerConfig

    optimizer = OptimizerConfig(warmup_steps=10)
    default = TrainConfig(model=PRESETS["ViT-tiny"], optimizer=optimizer)

    def run(content: bytes) -> None:
        given = [line.decode(errors="surrogateescape") for line in content.split(b"\n")]
        # A picture of the help is as good as a value.
        if not {"-h", "--help"} & set(given):
            check_train_config(parse(TrainConfig, given, "train.py", default))

    return [
        b"--steps\n200\n--optimizer.learning-rate\n1e-3\n--mesh.data\n2",
        b"--data.train\nwds:a\ncsv:b\n--data.weights\n1\n2\n--model.initial-logit-bias\nNone",
        b"--model.image.patch-size=4\n--optimizer.rates\n.*\n0.5\n--compute.no-unroll",
    ], run


@target()
def spec(folder: Path) -> tuple[list[bytes], Callable[[bytes], object]]:
    """A SPEC with a pattern of files, and the name of a model on the hub."""
    from clip_jax.data.files import find_files
    from clip_jax.data.sources.spec import parse_spec
    from clip_jax.hub import parse_name

    def run(content: bytes) -> None:
        text = content.decode(errors="surrogateescape").replace("\0", "")
        if text.startswith("hf://"):
            parse_name(text)
            return
        try:
            kind, path = parse_spec(text)
            if kind == "wds" and "://" not in path:
                find_files(path, (".tar",))
        except OSError as error:  # the scripts make one line of it
            raise InputError(str(error)) from error

    names = ("shards/{00..31}.tar", "a{b,{c,d}}{1..3}.tar", "/none/*.tar", "none")
    return [f"wds:{name}".encode() for name in names] + [b"hf://org/name@main", b"scenes:"], run
