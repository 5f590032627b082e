"""Whose compiled programs are kept, and where."""

import pathlib
import subprocess
import sys
import types

import jax
import pytest

from clip_jax.cache import keep_compiled

FOLDER = "jax_compilation_cache_dir"


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A function: the folder that JAX has after keep_compiled."""
    before = getattr(jax.config, FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def keep(platform, named=None, processes=1):
        jax.config.update(FOLDER, named)
        device = types.SimpleNamespace(platform=platform)
        monkeypatch.setattr(jax, "devices", lambda: [device])
        monkeypatch.setattr(jax, "process_count", lambda: processes)
        keep_compiled()
        return getattr(jax.config, FOLDER)

    yield keep
    jax.config.update(FOLDER, before)


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_programs_for_accelerators_are_kept_in_the_user_s_cache(folder, tmp_path, platform):
    assert folder(platform) == str(tmp_path / "clip_jax" / "compiled")


def test_the_folder_that_jax_was_given_stays(folder):
    assert folder("gpu", named="/elsewhere") == "/elsewhere"


def test_nothing_is_kept_on_cpus_or_of_several_processes(folder):
    assert folder("cpu") is None
    assert folder("tpu", processes=4) is None


HOMELESS = """
import pathlib
def homeless():
    raise RuntimeError("Could not determine home directory.")
pathlib.Path.home = homeless
from clip_jax.cache import cache_folder
assert cache_folder() == cache_folder() and cache_folder().parent.is_dir()
print(cache_folder().parent)
"""


def test_who_has_no_home_has_a_cache_until_the_end(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    done = subprocess.run([sys.executable, "-c", HOMELESS], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "clip_jax-" in done.stdout
    assert not pathlib.Path(done.stdout.strip()).exists()
