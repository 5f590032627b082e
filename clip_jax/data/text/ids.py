"""Rows of token ids as arrays, for those who have no tokenizer; their layout is `tokenizers`'."""

import numpy as np


def text_lengths(tokens: np.ndarray) -> np.ndarray:
    """Token ids int [..., context] -> int [...]: tokens from the start token to the end token.

    The text tower reads at the end token, the highest id of a row, and nothing behind it counts.
    """
    return tokens.argmax(axis=-1) + 1
