import numpy as np

from clip_jax.data.text.ids import text_lengths


def test_lengths_are_up_to_the_end_token():
    start, end = 8, 9
    rows = [[start, 3, end, 0, 0], [start, end, 0, 0, 0], [start, 1, 2, 3, end]]
    assert text_lengths(np.array(rows)).tolist() == [3, 2, 5]
    assert text_lengths(np.array([rows, rows])).tolist() == [[3, 2, 5], [3, 2, 5]]
