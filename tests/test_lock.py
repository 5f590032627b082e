"""One run at a time in a workdir."""

import os

import pytest

from clip_jax.errors import InputError
from clip_jax.training.lock import alone_in


def test_a_second_run_is_refused_and_the_first_one_named(tmp_path):
    with alone_in(tmp_path):
        with (
            pytest.raises(InputError, match=rf"run is at work there \(process {os.getpid()} on "),
            alone_in(tmp_path),
        ):
            pass
        with pytest.raises(InputError, match="another run"), alone_in(tmp_path):
            pass
    with alone_in(tmp_path):
        pass
