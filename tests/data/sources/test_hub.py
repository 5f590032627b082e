"""Data sets by their name on the hub: what is asked for, and the line for each failure."""

import pytest
from huggingface_hub import constants

from clip_jax.data.sources import hub
from clip_jax.data.sources.hub import dataset_name, local_dataset
from clip_jax.errors import InputError


def test_paths_are_left_as_they_are(tmp_path):
    assert local_dataset(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("source", "revision"), [("hf://a/wds_b", "main"), ("hf://a/wds_b@v1", "v1")]
)
def test_one_split_and_the_texts_are_fetched(tmp_path, monkeypatch, source, revision):
    asked = {}

    def snapshot_download(repository, **options):
        asked.update(options, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    assert local_dataset(source, "train") == tmp_path
    assert asked == {
        "repository": "a/wds_b",
        "repo_type": "dataset",
        "revision": revision,
        "allow_patterns": ["*.txt", "train/*"],
    }


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty cache, and a hub at which nobody answers."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_network(nowhere, monkeypatch, offline):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(InputError) as caught:
        local_dataset("hf://org/wds_pets")
    message = str(caught.value)
    assert message.startswith("hf://org/wds_pets: not in the cache, and ")
    assert ("HF_HUB_OFFLINE is set" if offline else "cannot be reached") in message
    assert "`hf download org/wds_pets --local-dir DIRECTORY --repo-type dataset`" in message
    assert "\n" not in message


def test_names_that_are_none_are_refused(nowhere):
    with pytest.raises(InputError, match="not the name of a dataset; write hf://org/name"):
        local_dataset("hf://pets")


@pytest.mark.parametrize(
    "source",
    ["hf://org/wds_pets", "hf://org/wds_pets@refs/pr/2", "sets/wds_pets", "sets/wds_pets/"],
)
def test_names_in_results(source):
    assert dataset_name(source) == "wds_pets"
