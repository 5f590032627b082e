"""Checkpoints on a disk that fails: what is damaged is named and passed over, never believed."""

import contextlib
import errno
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from clip_jax.errors import InputError
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.training.checkpoints import Checkpoints
from clip_jax.training.config import CheckpointConfig
from clip_jax.training.health import fresh_health
from clip_jax.training.state import TrainState

SPECS = {"w": P(("data", "fsdp")), "v": P()}


def state_at(step, mesh):
    """A state of made-up numbers, of a size at which files of their own hold them."""
    rng = np.random.default_rng(step)
    params = {
        "w": rng.normal(size=(64, 100)).astype(np.float32),
        "v": rng.normal(size=7).astype(jnp.bfloat16),
    }
    params = {
        name: jax.device_put(value, NamedSharding(mesh, SPECS[name]))
        for name, value in params.items()
    }
    rest = TrainState(jnp.int32(step), {}, {}, (jnp.zeros(3),), fresh_health())
    rest = jax.device_put(rest, NamedSharding(mesh, P()))
    return rest.replace(params=params)


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(data=2, fsdp=4))


@pytest.fixture(scope="module")
def written(tmp_path_factory, mesh):
    """A workdir with checkpoints of steps 2 and 4."""
    workdir = tmp_path_factory.mktemp("written")
    with contextlib.closing(Checkpoints(workdir, CheckpointConfig())) as checkpoints:
        for step in (2, 4):
            checkpoints.save(step, state_at(step, mesh), {"name": f"step {step}"})
    return workdir


@pytest.fixture
def workdir(written, tmp_path):
    """A copy of it."""
    return shutil.copytree(written, tmp_path / "work")


def restore(workdir, mesh, check=lambda run: None):
    with contextlib.closing(Checkpoints(workdir, CheckpointConfig())) as checkpoints:
        step, state, run = checkpoints.restore(abstract(state_at(0, mesh)), check)
        assert checkpoints.steps()[0] == step
    assert run["name"] == f"step {step}"
    jax.tree.map(np.testing.assert_array_equal, state, state_at(step, mesh))
    return step


def largest(folder):
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def replace_text(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def replace_numbers(folder, mesh):
    """Another run's state, whole in itself, in the place of this one's."""
    other = folder.parent.parent / "other"
    with contextlib.closing(Checkpoints(other, CheckpointConfig())) as checkpoints:
        checkpoints.save(4, state_at(5, mesh), {})
    shutil.rmtree(folder / "state")
    shutil.move(other / "checkpoints/4/state", folder / "state")


DAMAGE = {
    "numbers cut": lambda folder: cut(largest(folder / "state")),
    "numbers changed by a bit": lambda folder: flip(largest(folder / "state")),
    "numbers zeroed": lambda folder: zero(largest(folder / "state")),
    "numbers lost": lambda folder: largest(folder / "state").unlink(),
    "index cut": lambda folder: cut(folder / "state/manifest.ocdbt"),
    "index lost": lambda folder: (folder / "state/manifest.ocdbt").unlink(),
    "names cut": lambda folder: cut(folder / "state/_METADATA"),
    "names lost": lambda folder: (folder / "state/_METADATA").unlink(),
    "recipe cut": lambda folder: cut(folder / "run/metadata"),
    "recipe emptied": lambda folder: (folder / "run/metadata").write_text(""),
    "recipe lost": lambda folder: shutil.rmtree(folder / "run"),
    "recipe of another kind": lambda folder: (folder / "run/metadata").write_text("[1]"),
    "recipe changed": lambda folder: replace_text(folder / "run/metadata", "step 4", "step 6"),
    "the step before under its name": lambda folder: [
        shutil.rmtree(folder),
        shutil.copytree(folder.parent / "2", folder),
    ],
    "state lost": lambda folder: shutil.rmtree(folder / "state"),
    "summary cut": lambda folder: cut(folder / "_CHECKPOINT_METADATA"),
    "summary lost": lambda folder: (folder / "_CHECKPOINT_METADATA").unlink(),
    "all lost": lambda folder: [shutil.rmtree(folder), folder.mkdir()],
    "a file in its place": lambda folder: [shutil.rmtree(folder), folder.write_text("")],
}
HARMLESS = ("summary cut", "summary lost")
"""They hold nothing that is needed."""


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_the_checkpoint_before_is_used(workdir, mesh, kind, capsys):
    DAMAGE[kind](workdir / "checkpoints/4")
    step, told = restore(workdir, mesh), capsys.readouterr().err
    if kind in HARMLESS:
        assert (step, told) == (4, "")
        return
    assert step == 2
    first, last = told.splitlines()
    assert first.startswith("the checkpoint of step 4 is damaged (")
    assert first.endswith(f"): moved to {workdir}/damaged/4")
    assert last == "the run continues from step 2"
    assert restore(workdir, mesh) == 2
    assert not capsys.readouterr().err


def test_a_run_never_starts_anew_for_damage(workdir, mesh):
    for step in (2, 4):
        cut(largest(workdir / "checkpoints" / str(step) / "state"))
    with pytest.raises(InputError, match=r"no checkpoint is whole \(4: .*; 2: .*put back a copy"):
        restore(workdir, mesh)
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["2", "4"]


def test_a_file_in_the_place_of_all_is_refused(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(InputError, match="checkpoints: is not a directory; move it away"):
        Checkpoints(tmp_path, CheckpointConfig())


def test_another_recipe_is_no_damage(workdir, mesh):
    def refuse(run):
        raise InputError(f"{run['name']} is of another recipe")

    with pytest.raises(InputError, match=r"^step 4 is of another recipe"):
        restore(workdir, mesh, refuse)
    assert not (workdir / "damaged").exists()


def test_the_last_and_every_nth_are_kept(tmp_path, mesh):
    config = CheckpointConfig(keep=2, keep_every=4)
    for start in (1, 7):  # a run, and what continues it
        with contextlib.closing(Checkpoints(tmp_path, config)) as checkpoints:
            for step in range(start, start + 6):
                checkpoints.save(step, state_at(step, mesh), {})
    with contextlib.closing(Checkpoints(tmp_path, config)) as checkpoints:
        assert checkpoints.steps() == [12, 11, 8, 4]


@pytest.mark.parametrize("where", ["mkdir", "rename"])
def test_a_full_disk_is_reported_and_the_next_save_succeeds(
    workdir, mesh, where, monkeypatch, capsys
):
    """mkdir fails while the run waits for the save to begin, rename in the background."""

    def full(*names, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with contextlib.closing(Checkpoints(workdir, CheckpointConfig())) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(os, where, full)
            checkpoints.save(5, state_at(5, mesh), {})
            checkpoints.save(6, state_at(6, mesh), {})
            assert capsys.readouterr().err == (
                "the checkpoint of step 5 cannot be written ([Errno 28] No space left on device); "
                "the newest is of step 4\n"
            )
            with pytest.raises(InputError, match=r"step 6 cannot .*No space.* of step 4; make"):
                checkpoints.finish()
        assert checkpoints.steps() == [4, 2]
        checkpoints.save(8, state_at(8, mesh), {"name": "step 8"})
        checkpoints.finish()
        assert checkpoints.steps() == [8, 4]
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["4", "8"]
    assert restore(workdir, mesh) == 8
