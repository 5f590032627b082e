"""One run at a time in a folder."""

import os

import pytest

from clip_jax.errors import InputError
from clip_jax.lock import alone_in


def test_a_second_run_is_refused_and_the_first_one_named(tmp_path):
    with alone_in(tmp_path, "wait"):
        with (
            pytest.raises(
                InputError, match=rf"run is at work there \(process {os.getpid()} on .*\); wait$"
            ),
            alone_in(tmp_path, "wait"),
        ):
            pass
        with pytest.raises(InputError, match="another run"), alone_in(tmp_path, "wait"):
            pass
    with alone_in(tmp_path, "wait"):
        pass
