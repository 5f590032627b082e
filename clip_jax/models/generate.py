"""Captions written token by token by a model with a decoder: greedy, by beams, or drawn at random.

A sequence is read anew for every token, at the length that it has come to, rounded up; so there is
no state beside the tokens. Ids are laid out as in training: the two highest start and end a
caption. The end, and id 0, which pads, end it, as in open_clip.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from clip_jax.models.clip import CLIP
from clip_jax.models.decoder import next_token_logits

Array = jax.Array
State = TypeVar("State")
Read = Callable[[Array, Array], Array]
"""Tokens [N, T] and a place t -> float32 logits [N, vocabulary] of the token at t."""

LENGTH_STEP = 8
"""Sequences are read at multiples of this length."""


@dataclass(frozen=True)
class Decoding:
    """How captions are written."""

    method: Literal["greedy", "beam", "nucleus"] = "greedy"
    """The most probable token each time; the most probable caption that a search by beams finds; or
    tokens drawn at random from the most probable ones."""
    length: int = 30
    """Most tokens of a caption, start and end included; no more than the model's context holds."""
    min_length: int = 5
    """The end may not come before so many tokens, the start included."""
    beams: int = 6
    """Of method beam: captions that are pursued at once. The best has the highest mean
    log-probability of its tokens, the end included."""
    top_p: float = 0.9
    """Of method nucleus: the fewest tokens whose probabilities sum to this are drawn from."""
    temperature: float = 1.0
    """Of method nucleus: what logits are divided by before."""


GREEDY = Decoding()
"""Open_clip's greedy captions."""


def check_decoding(decoding: Decoding) -> None:
    """Raise ValueError with one line for what cannot be."""
    if decoding.length < 3:
        raise ValueError(f"length must hold start, end and a token, got {decoding.length}")
    if decoding.min_length >= decoding.length:
        raise ValueError(
            f"min_length {decoding.min_length} must be less than length {decoding.length}"
        )
    if decoding.beams < 1:
        raise ValueError(f"beams must be at least 1, got {decoding.beams}")
    if not 0 < decoding.top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {decoding.top_p}")
    if not decoding.temperature > 0:
        raise ValueError(f"temperature must be above 0, got {decoding.temperature}")
    for name, method in (("beams", "beam"), ("top_p", "nucleus"), ("temperature", "nucleus")):
        if decoding.method != method and getattr(decoding, name) != getattr(GREEDY, name):
            raise ValueError(f"{name} is of method {method}, not of {decoding.method}")


def generate(module: CLIP, variables: Any, images: Array, key: Array, decoding: Decoding) -> Array:
    """Images as CLIP.view takes them -> captions' token ids, int32 [B, length].

    Start, tokens, end, zeros; the last place is the end's if the caption has not ended before. key:
    of method nucleus; each image draws by its own row's number. Takes a model with a decoder.
    """
    apply: Callable[..., Any] = module.apply
    _, seen = apply(variables, images, method="view")
    text = module.config.text
    length = min(decoding.length, text.context_length)

    def read(tokens: Array, place: Array) -> Array:
        _, features = apply(variables, tokens, seen, method="read")
        last = jax.lax.dynamic_index_in_dim(features, place - 1, axis=1, keepdims=False)
        return next_token_logits(last, variables["params"])

    write = Writer(read, len(images), text.vocab_size, length, decoding)
    if decoding.method == "beam":
        return search_beams(write)
    choose = argmax if decoding.method == "greedy" else partial(draw, key, decoding)
    return one_by_one(write, choose)


class Writer(NamedTuple):
    """What all methods know."""

    read: Read
    captions: int
    vocab_size: int
    length: int
    decoding: Decoding

    @property
    def end(self) -> int:
        """The token that ends a caption."""
        return self.vocab_size - 1

    def blank(self, *shape: int) -> Array:
        """Captions [*shape, length] of nothing but the start."""
        return jnp.zeros((*shape, self.length), jnp.int32).at[..., 0].set(self.vocab_size - 2)

    def forbid(self, logits: Array, place: Array) -> Array:
        """-inf for the end where it comes too early."""
        early = (place < self.decoding.min_length) & (place < self.length - 1)
        return logits.at[..., self.end].set(jnp.where(early, -jnp.inf, logits[..., self.end]))

    def grow(
        self,
        state: State,
        extend: Callable[[State, Array, int], State],
        done: Callable[[State], Array],
    ) -> State:
        """Fill place by place, from 1 on, until all is done.

        extend(state, place, size): reads captions of `size` tokens, more than `place`.
        """

        def up_to(size: int, place: Array, state: State) -> tuple[Array, State]:
            return jax.lax.while_loop(
                lambda at: (at[0] < size) & ~done(at[1]),
                lambda at: (at[0] + 1, extend(at[1], at[0], size)),
                (place, state),
            )

        place = jnp.ones((), jnp.int32)
        for size in [*range(LENGTH_STEP, self.length, LENGTH_STEP), self.length]:
            place, state = up_to(size, place, state)
        return state


def argmax(logits: Array, place: Array) -> Array:
    """The most probable token, the first of equal ones: [N, vocabulary] -> int32 [N]."""
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def draw(key: Array, decoding: Decoding, logits: Array, place: Array) -> Array:
    """A token of the nucleus, by its probability: [N, vocabulary] -> int32 [N]."""
    kept = nucleus(logits / decoding.temperature, decoding.top_p)
    fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    keys = fold(jax.random.fold_in(key, place), jnp.arange(len(logits)))
    return jax.vmap(jax.random.categorical)(keys, kept).astype(jnp.int32)


def nucleus(logits: Array, top_p: float) -> Array:
    """-inf for all but the fewest tokens whose probabilities sum to top_p (Holtzman et al. 2020).

    Tokens as probable as the last of these are kept too. [N, vocabulary] -> the same.
    """
    falling = -jnp.sort(-logits, axis=-1)
    probabilities = jax.nn.softmax(falling)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    least = jnp.where(before < top_p, falling, jnp.inf).min(axis=-1, keepdims=True)
    return jnp.where(logits >= least, logits, -jnp.inf)


def one_by_one(write: Writer, choose: Callable[[Array, Array], Array]) -> Array:
    """Each caption's tokens in turn, as chosen by their logits and place: int32 [B, length]."""

    def extend(state: tuple[Array, Array], place: Array, size: int) -> tuple[Array, Array]:
        tokens, ended = state
        token = choose(write.forbid(write.read(tokens[:, :size], place), place), place)
        token = jnp.where(place == write.length - 1, write.end, token)
        token = jnp.where(ended, 0, token)
        return tokens.at[:, place].set(token), ended | (token == write.end) | (token == 0)

    start = write.blank(write.captions), jnp.zeros(write.captions, bool)
    return write.grow(start, extend, lambda state: state[1].all())[0]


class Beams(NamedTuple):
    """The search's state. K: beams."""

    tokens: Array
    """Captions that go on, int32 [B, K, length]."""
    sums: Array
    """Their log-probabilities, float32 [B, K]."""
    best: Array
    """The best caption that has ended, int32 [B, length]."""
    score: Array
    """Its mean log-probability, float32 [B]; -inf as long as there is none."""


def search_beams(write: Writer) -> Array:
    """The captions with the highest mean log-probability that K beams find: int32 [B, length].

    Beams are ranked by log-probability, all being of one length; an ended one leaves its place to
    another. The search is over when no beam could end better than the best that has ended.
    """
    count, beams = write.captions, write.decoding.beams
    ends = jnp.array([0, write.end])

    def extend(state: Beams, place: Array, size: int) -> Beams:
        read = write.read(state.tokens.reshape(count * beams, -1)[:, :size], place)
        logs = write.forbid(jax.nn.log_softmax(read).reshape(count, beams, -1), place)
        totals = state.sums[..., None] + logs
        best, score = end_beams(state, totals[..., ends], place)
        going_on = totals.at[..., ends].set(-jnp.inf).reshape(count, -1)
        sums, chosen = jax.lax.top_k(going_on, beams)
        parents, tokens = chosen // write.vocab_size, chosen % write.vocab_size
        grown = jnp.take_along_axis(state.tokens, parents[..., None], axis=1)
        return Beams(grown.at[..., place].set(tokens), sums, best, score)

    def end_beams(state: Beams, totals: Array, place: Array) -> tuple[Array, Array]:
        """totals [B, K, 2] of the beams with either end -> the best caption that has ended."""
        last = (place == write.length - 1) & (ends == 0)
        scores = jnp.where(last, -jnp.inf, totals / place).reshape(count, -1)
        first, score = scores.argmax(axis=1), scores.max(axis=1)
        ended = jnp.take_along_axis(state.tokens, first[:, None, None] // 2, axis=1)[:, 0]
        ended = ended.at[:, place].set(ends[first % 2])
        better = score > state.score
        return jnp.where(better[:, None], ended, state.best), jnp.where(better, score, state.score)

    def done(state: Beams) -> Array:
        return (state.score >= state.sums.max(axis=1) / (write.length - 1)).all()

    tokens = write.blank(count, beams)
    sums = jnp.full((count, beams), -jnp.inf).at[:, 0].set(0)
    start = Beams(tokens, sums, tokens[:, 0], jnp.full(count, -jnp.inf))
    return write.grow(start, extend, done).best
