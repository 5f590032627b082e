"""Evaluation sets on the hub: "hf://org/name" -> a directory in CLIP_benchmark's layout.

The cache, the progress bars and logging in are huggingface_hub's own. clip-benchmark/wds_* and
djghosh/wds_*_test (DataComp) are such sets.
"""

from pathlib import Path

from huggingface_hub import snapshot_download

from clip_jax.errors import InputError
from clip_jax.hub import HUB_ERRORS, explain, parse_name


def local_dataset(source: str, split: str = "test") -> Path:
    """Where a data set lies: a path is left as it is, of "hf://org/name" one split is fetched.

    What is in the cache is not fetched again, and serves without a network. Raises InputError if
    there is no such data set, or it cannot be fetched.
    """
    if not source.startswith("hf://"):
        return Path(source)
    repository, revision = parse_name(source, "dataset")
    try:
        directory = snapshot_download(
            repository,
            repo_type="dataset",
            revision=revision,
            allow_patterns=["*.txt", f"{split}/*"],
        )
    except HUB_ERRORS as error:
        raise InputError(f"{source}: {explain(error, repository, 'dataset')}") from None
    return Path(directory)


def dataset_name(source: str) -> str:
    """What a data set is called in results: the last part of its path or of its name on the hub."""
    return Path(source.partition("@")[0] if source.startswith("hf://") else source).name
