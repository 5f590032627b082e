"""Tools for data: python -m clip_jax.data COMMAND SPEC; --help lists the commands."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from clip_jax.commandline import main, parse
from clip_jax.data.sources.fields import FieldNames

PROGRAM = "python -m clip_jax.data"


@dataclass(frozen=True)
class Inspect:
    """What is in a data set: sizes, captions, bad samples, and a picture of some of it."""

    spec: tyro.conf.Positional[str]
    """The data, as for --data.train."""
    samples: int = 1000
    """Pairs to look at, evenly spread."""
    sheet: str = "inspect.png"
    """Where the picture of some pairs with their captions is written."""
    tokenizer: str | None = None
    """Vocabulary to count captions in, as for --data.tokenizer; by default words are counted."""
    context_length: int = 77
    """Tokens that the model will take of a caption, start and end included."""
    fields: FieldNames = field(default_factory=FieldNames)
    """What the data calls its pictures and captions."""


@dataclass(frozen=True)
class Convert:
    """Write a data set as ArrayRecord files: random access without an index."""

    spec: tyro.conf.Positional[str]
    """The data, as for --data.train."""
    out: tyro.conf.Positional[str]
    """Folder for the files; read it as arrayrecord:FOLDER."""
    pairs_per_file: int = 10_000
    """Pairs in a file."""
    fields: FieldNames = field(default_factory=FieldNames)
    """What the data calls its pictures and captions."""


@dataclass(frozen=True)
class Bench:
    """How many images a second become batches, by stage, and which stage limits."""

    spec: tyro.conf.Positional[str]
    """The data, as for --data.train."""
    image_size: int = 224
    """Pixels along each side of the model's pictures."""
    batch_size: int = 256
    """Pairs a batch."""
    tokenizer: str | None = None
    """Vocabulary, as for --data.tokenizer; by default one is trained on some of the captions."""
    context_length: int = 77
    """Tokens of a caption, start and end included."""
    seconds: float = 10
    """How long stages and pipeline are each measured."""
    fields: FieldNames = field(default_factory=FieldNames)
    """What the data calls its pictures and captions."""


@dataclass(frozen=True)
class Captions:
    """Make image-text pairs of a detection set: a photo of two dogs and a ball."""

    path: tyro.conf.Positional[str]
    """A file in COCO's format, or a folder of Roboflow's COCO export."""
    out: tyro.conf.Positional[str]
    """A new folder for the pairs."""
    images: str | None = None
    """Folder of the pictures; by default that of the file."""
    form: Literal["webdataset", "folders"] = "webdataset"
    """Tars of pictures with a .txt each, or a folder for each caption with _tokenization.txt."""
    template: str = "a photo of {c}"
    """The sentence, with {c} for the things in the picture."""
    counts: bool = True
    """Say how many of each there are."""
    positions: bool = False
    """Say roughly where they are."""
    plurals: str | None = None
    """A JSON file, {category: plural}, for names that English does not form as usual."""
    empty: str | None = None
    """Caption of pictures without boxes; by default they are left out."""
    pairs_per_shard: int = 10_000
    """Pairs in a tar."""


Commands = (
    Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
    | Annotated[Captions, tyro.conf.subcommand("captions")]
)

IMAGE_SIZE = 224
"""Of generated pictures."""
VOCABULARY_CAPTIONS = 10_000
"""Captions that bench trains a vocabulary on where none is named."""
LONGEST = 512
"""Tokens up to which a caption's length is counted."""


def run(arguments: Sequence[str]) -> None:
    command = parse(Commands, arguments, PROGRAM)
    if isinstance(command, Inspect):
        run_inspect(command)
    elif isinstance(command, Convert):
        run_convert(command)
    elif isinstance(command, Captions):
        run_captions(command)
    else:
        run_bench(command)


def run_inspect(command: Inspect) -> None:
    from rich.console import Console

    from clip_jax.data.sheet import draw_sheet
    from clip_jax.data.sources.spec import open_pairs
    from clip_jax.data.tools.inspect import inspect_pairs, print_findings
    from clip_jax.errors import InputError

    if command.samples < 1:
        raise InputError(f"samples must be at least 1, got {command.samples}")
    if command.tokenizer is None:
        measure, unit, longest = count_words(), "words", None
    else:
        measure, unit, longest = count_tokens(command.tokenizer), "tokens", command.context_length
    source = open_pairs(command.spec, IMAGE_SIZE, command.fields)
    findings = inspect_pairs(source, command.samples, measure)
    console = Console(soft_wrap=True)
    print_findings(findings, unit, longest, console)
    draw_sheet(findings.examples, Path(command.sheet))
    console.print(f"{command.sheet}: {len(findings.examples)} of them, with their captions")


def count_words() -> Callable[[str], int]:
    """A function: the length of a caption in words."""
    return lambda caption: len(caption.split())


def count_tokens(vocabulary: str) -> Callable[[str], int]:
    """A function: the length of a caption in tokens, start and end included."""
    from clip_jax.data.text.hub import local_vocabulary
    from clip_jax.data.text.ids import text_lengths
    from clip_jax.data.text.vocabulary import open_tokenizer

    tokenizer = open_tokenizer(local_vocabulary(vocabulary), LONGEST)
    return lambda caption: int(text_lengths(tokenizer(caption, truncate=True))[0])


def run_convert(command: Convert) -> None:
    from clip_jax.data.sources.spec import describe_problems, open_pairs
    from clip_jax.data.tools.convert import convert

    source = open_pairs(command.spec, IMAGE_SIZE, command.fields)
    written, problems = convert(source, Path(command.out), command.pairs_per_file)
    print(f"{command.out}: {written} pairs")
    for left_out in (source.problems, problems):
        if left_out:
            print(describe_problems(left_out))


def run_captions(command: Captions) -> None:
    from clip_jax.data.tools.captions import (
        Wording,
        captions_of,
        read_detections,
        read_plurals,
        write_folders,
        write_shards,
    )

    plurals = read_plurals(Path(command.plurals)) if command.plurals else {}
    wording = Wording(command.template, command.counts, command.positions, plurals)
    images = None if command.images is None else Path(command.images)
    pictures = read_detections(Path(command.path), images)
    pairs = captions_of(pictures, wording, command.empty)
    if command.form == "folders":
        write_folders(pairs, Path(command.out))
    else:
        write_shards(pairs, Path(command.out), command.pairs_per_shard)
    left_out = len(pictures) - len(pairs)
    print(f"{command.out}: {len(pairs)} pairs, for example: {pairs[0][1]}")
    if left_out:
        print(f"left out: {left_out} pictures without boxes")


def run_bench(command: Bench) -> None:
    from clip_jax.data.images import Resize
    from clip_jax.data.sources.spec import open_pairs
    from clip_jax.data.text.hub import local_vocabulary
    from clip_jax.data.text.tokenizers import train_sentencepiece
    from clip_jax.data.text.vocabulary import open_tokenizer
    from clip_jax.data.tools.bench import describe, measure
    from clip_jax.errors import InputError

    for name in ("image_size", "batch_size", "seconds"):
        if getattr(command, name) <= 0:
            raise InputError(f"{name} must be positive, got {getattr(command, name)}")
    source = open_pairs(command.spec, command.image_size, command.fields)
    if command.tokenizer is not None:
        vocabulary = local_vocabulary(command.tokenizer)
        tokenizer = open_tokenizer(vocabulary, command.context_length)
    else:
        some = range(0, len(source), max(1, len(source) // VOCABULARY_CAPTIONS))
        captions = (caption for i in some for caption in source.captions(i))
        tokenizer = train_sentencepiece(captions, 8192, command.context_length)
    resize = Resize(command.image_size)
    print(describe(measure(source, tokenizer, resize, command.batch_size, command.seconds)))


if __name__ == "__main__":
    sys.exit(main(PROGRAM, run))
