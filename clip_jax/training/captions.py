"""What a run learns from its captions before it starts: a vocabulary, and how long they are."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from clip_jax.data.augment import Augment
from clip_jax.data.samples import PairSource
from clip_jax.data.text.hub import local_vocabulary
from clip_jax.data.text.ids import text_lengths
from clip_jax.data.text.tokenizers import Tokenizer, train_sentencepiece
from clip_jax.data.text.vocabulary import open_tokenizer
from clip_jax.errors import InputError
from clip_jax.model import Model
from clip_jax.training.config import TrainConfig

VOCABULARY_CAPTIONS = 100_000
"""Captions read at most to train a vocabulary."""

LENGTH_CAPTIONS = 1000
"""Captions read at most to plan the groups by length."""


def make_tokenizer(
    config: TrainConfig, source: PairSource, given: Model | None = None
) -> Tokenizer:
    """The vocabulary of a new run: of the model it starts from, named, or trained on captions."""
    if given is not None:
        if given.tokenizer is None:
            raise InputError(
                f"{config.init_from}: comes without its vocabulary; name it by --data.tokenizer"
            )
        return given.tokenizer
    length = config.model.text.context_length
    if config.data.tokenizer is not None:
        return open_tokenizer(local_vocabulary(config.data.tokenizer), length)
    chosen = spread(len(source), VOCABULARY_CAPTIONS)
    captions = (caption for i in chosen for caption in source.captions(i))
    return train_sentencepiece(captions, config.data.vocab_size, length)


def caption_lengths(source: PairSource, augment: Augment, tokenizer: Tokenizer) -> np.ndarray:
    """int [n]: lengths in tokens, start and end included, of captions spread over the data."""
    with ThreadPoolExecutor() as threads:  # one after the other, remote files would take long
        captions = list(threads.map(source.captions, spread(len(source), LENGTH_CAPTIONS)))
    rng = np.random.default_rng(0)
    texts = [augment.caption(given, rng) for given in captions if given]
    return text_lengths(tokenizer(texts, truncate=True))


def spread(length: int, count: int) -> list[int]:
    """At most `count` indices, evenly spread over a sequence of this length."""
    count = min(length, count)
    return [i * length // count for i in range(count)]
