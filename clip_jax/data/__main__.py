"""Tools for data: python -m clip_jax.data COMMAND SPEC; --help lists the commands."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from clip_jax.commandline import main, parse

PROGRAM = "python -m clip_jax.data"

VOCABULARY_CAPTIONS = 10_000
"""Captions that a vocabulary is trained on where none is named."""


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


def run(arguments: Sequence[str]) -> None:
    commands = Annotated[Bench, tyro.conf.subcommand("bench")] | Annotated[None, tyro.conf.Suppress]
    run_bench(parse(commands, arguments, PROGRAM))


def run_bench(command: Bench) -> None:
    from clip_jax.data.bench import describe, measure
    from clip_jax.data.images import Resize
    from clip_jax.data.sources import open_pairs
    from clip_jax.data.tokenizers import train_sentencepiece
    from clip_jax.data.vocabulary import open_tokenizer
    from clip_jax.errors import InputError
    from clip_jax.weights.hub import local_vocabulary

    for name in ("image_size", "batch_size", "seconds"):
        if getattr(command, name) <= 0:
            raise InputError(f"{name} must be positive, got {getattr(command, name)}")
    source = open_pairs(command.spec, command.image_size)
    if command.tokenizer is not None:
        vocabulary = local_vocabulary(command.tokenizer)
        tokenizer = open_tokenizer(vocabulary, command.context_length)
    else:
        some = range(0, len(source), max(1, len(source) // VOCABULARY_CAPTIONS))
        captions = (source.caption(i) for i in some)
        tokenizer = train_sentencepiece(captions, 8192, command.context_length)
    resize = Resize(command.image_size)
    print(describe(measure(source, tokenizer, resize, command.batch_size, command.seconds)))


if __name__ == "__main__":
    sys.exit(main(PROGRAM, run))
