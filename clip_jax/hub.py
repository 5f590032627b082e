"""Files on the hub, hf://org/name, and one line for whatever goes wrong there.

The cache, the progress bars and logging in are huggingface_hub's own. Which files are needed is
said elsewhere: of models in weights/hub.py, of vocabularies and data sets in data/.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # the base of all errors of the HTTP library that huggingface_hub is built on
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from clip_jax.errors import InputError

HUB_ERRORS = (HTTPError, OSError, RuntimeError, json.JSONDecodeError)
"""What huggingface_hub raises for reasons outside of it; RuntimeError comes from Xet transfers."""

Kind = Literal["model", "dataset"]


def parse_name(source: str, kind: Kind = "model") -> tuple[str, str]:
    """hf://org/name@revision -> ("org/name", revision); the revision is "main" unless given."""
    # As in git, no revision has two dots in a row; it is also a path inside the cache.
    pattern = r"hf://([\w.-]+/[\w.-]+)(?:@((?!.*\.\.)\w[\w./+-]*))?"
    match = re.fullmatch(pattern, source, re.ASCII)
    try:
        validate_repo_id(match[1] if match else "")
    except HFValidationError:
        match = None
    if match is None:
        raise InputError(
            f"{source!r}: not the name of a {kind}; write hf://org/name or hf://org/name@revision"
        )
    return match[1], match[2] or "main"


def fetch_files(
    source: str,
    choose: Callable[[Iterable[str]], list[str]],
    unfit: str,
    check: Callable[[str, Path], None] = lambda source, file: None,
) -> Path:
    """Download chosen files of a model, "hf://org/name[@revision]" -> their directory in the cache.

    choose names the files needed, of all there are; unfit says what is wrong if that is none. The
    first file is checked before the others are downloaded. If the hub does not say what it has
    (offline, unreachable, access withdrawn), what is in the cache serves. Raises InputError if it
    does not, if the hub has no such model, or access is refused.
    """
    repository, revision = parse_name(source)
    try:
        names = _list_files(repository, revision)
    except HUB_ERRORS as error:
        directory = _cached_snapshot(repository, revision)
        if directory is None or not choose(_names(directory)):
            raise InputError(f"{source}: {explain(error, repository)}") from None
        return directory
    chosen = choose(names)
    if not chosen:
        raise InputError(f"{source}: {unfit}")
    try:
        # Records which commit the revision stands for; all other files are of that commit.
        first = Path(hf_hub_download(repository, chosen[0], revision=revision))
        check(source, first)
        for name in chosen[1:]:
            hf_hub_download(repository, name, revision=first.parent.name)
    except HUB_ERRORS as error:
        raise InputError(f"{source}: {explain(error, repository)}") from None
    return first.parent


def _list_files(repository: str, revision: str) -> list[str]:
    """The paths of all files in a repository, asked from the hub."""
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    info = HfApi().model_info(repository, revision=revision, timeout=timeout)
    return [sibling.rfilename for sibling in info.siblings or []]


def _cached_snapshot(repository: str, revision: str) -> Path | None:
    """The directory of what is in the cache of a revision."""
    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def _names(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir() if file.is_file()]


def explain(error: BaseException, repository: str, kind: Kind = "model") -> str:
    """What went wrong and what to do, in one line."""
    hub = constants.ENDPOINT
    login = "log in with `hf auth login` or set HF_TOKEN"
    download = f"hf download {repository} --local-dir DIRECTORY"
    if kind == "dataset":
        hub_page, download = f"{hub}/datasets/{repository}", f"{download} --repo-type dataset"
    else:
        hub_page = f"{hub}/{repository}"
    elsewhere = f"download it on another machine (`{download}`) and give the directory"
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    match error:
        case LocalEntryNotFoundError(__cause__=BaseException() as cause):
            return explain(cause, repository, kind)
        case OfflineModeIsEnabled():
            return f"not in the cache, and HF_HUB_OFFLINE is set; unset it, or {elsewhere}"
        case GatedRepoError():
            return f"access is given on request; ask for it at {hub_page}, then {login}"
        case RevisionNotFoundError():
            return "the repository has no such revision; give a branch, a tag or a commit hash"
        case RepositoryNotFoundError():
            return f"no such repository at {hub}, or a private one; check the name, or {login}"
        case HfHubHTTPError(response=response) if response.status_code in (401, 403):
            return f"{hub} refuses access ({response.status_code}); {login}"
        case HfHubHTTPError(response=response):
            return f"{hub} answers with error {response.status_code}; try later, or {elsewhere}"
        case HTTPError():
            return f"not in the cache, and {hub} cannot be reached ({reason}); {elsewhere}"
        case json.JSONDecodeError():
            return f"{hub} does not answer as a hub does; check the network and HF_ENDPOINT"
        case _:
            cache = constants.HF_HUB_CACHE
            return (
                f"the download to {cache} failed ({reason}); check disk and network and try again"
            )
