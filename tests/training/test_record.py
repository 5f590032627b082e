"""What a run writes for whoever wants to repeat it."""

import json
import subprocess

import jax
import numpy
import pytest
from shards import encode, solid, write_pairs

from clip_jax.data.mixture import Mixture
from clip_jax.data.samples import Indexed
from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.sources.folder import FolderPairs
from clip_jax.data.sources.scenes import TrainingScenes
from clip_jax.data.sources.webdataset import WebDatasetPairs
from clip_jax.models.presets import PRESETS
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.training.config import TrainConfig, flatten_config
from clip_jax.training.record import STARTS, describe_code, record_start

CONFIG = TrainConfig(model=PRESETS["ViT-tiny"], seed=7)


def started(workdir, source, step=0):
    record_start(workdir, CONFIG, make_mesh(MeshConfig(data=8)), source, step)
    return [json.loads(line) for line in (workdir / STARTS).read_text().splitlines()]


def test_every_start_has_a_line_with_what_the_run_depends_on(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_SOMETHING", "1")
    monkeypatch.setenv("SECRET_KEY", "hidden")
    source = TrainingScenes(16)
    started(tmp_path, source)
    first, again = started(tmp_path, source, step=20)
    assert (first["step"], again["step"]) == (0, 20)
    assert first["config"] == flatten_config(CONFIG)
    assert first["config"]["seed"] == 7
    assert first["data"]["pairs"] == len(source)
    assert first["devices"]["count"] == first["devices"]["mesh"]["data"] == 8
    assert first["devices"]["kind"] == jax.devices()[0].device_kind
    assert first["devices"]["processes"] == 1
    assert first["packages"]["numpy"] == numpy.__version__
    assert first["packages"]["jax"] == jax.__version__
    assert first["environment"]["XLA_SOMETHING"] == "1"
    assert "hidden" not in json.dumps(first)


@pytest.fixture
def package(tmp_path):
    """A package in a git checkout of its own."""
    folder = tmp_path / "checkout" / "package"
    folder.mkdir(parents=True)
    (folder / "module.py").write_text("a = 1\n")
    return folder


def git(package, *arguments):
    about = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(package.parent), *about, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_and_changes_to_it(package):
    git(package, "init", "-q")
    git(package, "add", ".")
    git(package, "commit", "-qm", "one")
    clean = describe_code(package)
    assert (clean["commit"], clean["modified"]) == (git(package, "rev-parse", "HEAD"), False)
    (package / "module.py").write_text("a = 2\n")
    changed = describe_code(package)
    assert (changed["commit"], changed["modified"]) == (clean["commit"], True)
    assert changed["sha256"] != clean["sha256"]


def test_without_git_the_code_is_told_by_its_hash(package, monkeypatch):
    before = describe_code(package)
    assert (before["commit"], before["modified"]) == (None, None)  # no checkout
    monkeypatch.setenv("PATH", "")
    assert describe_code(package) == before
    (package / "other.py").touch()
    assert describe_code(package)["sha256"] != before["sha256"]


def test_a_package_inside_another_project_is_not_told_by_its_commit(package):
    git(package, "init", "-q")
    inner = package / "site-packages" / "package"
    inner.mkdir(parents=True)
    assert describe_code(inner)["commit"] is None


def test_the_index_of_data_is_told_by_names_sizes_and_order(tmp_path):
    def digest(name, captions, first=0):
        write_pairs(tmp_path / name / "0.tar", captions, first)
        return WebDatasetPairs(str(tmp_path / name)).digest()

    assert digest("a", ["one", "two"]) == digest("b", ["one", "two"])  # wherever it lies
    others = [["one"], ["one", "twos"], ["one", "two", "three"]]
    digests = [digest("a", ["one", "two"]), digest("f", ["one", "two"], first=5)]
    digests += [digest(f"c{n}", captions) for n, captions in enumerate(others)]
    assert len(set(digests)) == len(digests)


def test_folders_and_mixtures_have_a_digest_and_generated_pictures_have_none(tmp_path):
    (tmp_path / "cat").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "cat" / name).write_bytes(encode(solid(0)))
    folder, scenes = FolderPairs(str(tmp_path), FieldNames()), TrainingScenes(16)
    assert not isinstance(scenes, Indexed)
    mixtures = [Mixture([folder, scenes]), Mixture([scenes, folder]), Mixture([folder, folder])]
    assert len({source.digest() for source in (folder, *mixtures)}) == 4
    (tmp_path / "cat" / "b.png").rename(tmp_path / "cat" / "c.png")
    assert FolderPairs(str(tmp_path), FieldNames()).digest() != folder.digest()
    assert started(tmp_path, folder)[0]["data"]["index"] == folder.digest()
    assert started(tmp_path, scenes)[1]["data"]["index"] is None
