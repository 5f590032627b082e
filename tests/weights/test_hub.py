"""Fetching by name from a small hub of our own: what is downloaded, what is cached, every error."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import huggingface_hub
import pytest
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st

from clip_jax.data.text.hub import local_vocabulary
from clip_jax.errors import InputError
from clip_jax.weights.hub import OPENAI_REPOSITORIES, fetch, needed_files

ROOT = Path(__file__).parents[2]
CONFIG = json.dumps({"model_type": "clip"}).encode()
TOKENIZER = {name: name.encode() for name in ("tokenizer.json", "vocab.json", "merges.txt")}
HUGGING_FACE = {
    "config.json": CONFIG,
    "preprocessor_config.json": b"{}",
    "model.safetensors": b"weights " * 1000,
    **TOKENIZER,
}
OPEN_CLIP = {
    "open_clip_config.json": b"{}",
    "open_clip_model.safetensors": b"both towers",
    **TOKENIZER,
}
CLUTTER = {
    ".gitattributes": b"",
    "README.md": b"a model",
    "flax_model.msgpack": b"flax",
    "onnx/model.safetensors": b"another",
    "tf_model.h5": b"tensorflow",
}


class Hub:
    """As much of the hub's HTTP interface as downloads use, on this machine."""

    def __init__(self):
        self.files = {}  # (repository, commit) -> name -> content
        self.revisions = {}  # (repository, revision) -> commit
        self.token = None  # if set, files are given only to those who send it
        self.failures = {}  # the end of a path -> status of its GETs
        self.requests = []  # "GET /org/name/resolve/main/config.json"
        handler = type("Handler", (HubHandler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def push(self, repository, files, revision="main"):
        """Commit files; returns the commit's hash."""
        commit = hashlib.sha1(repr(files).encode()).hexdigest()
        self.files[repository, commit] = files
        self.revisions[repository, revision] = commit
        self.revisions[repository, commit] = commit
        return commit

    def downloads(self):
        """Names of the files that were sent so far."""
        gets = [line for line in self.requests if line.startswith("GET") and "/resolve/" in line]
        return sorted(line.split("/resolve/")[1].split("/", 1)[1] for line in gets)

    def stop(self):
        self._server.shutdown()
        self._server.server_close()


class HubHandler(BaseHTTPRequestHandler):
    """Answers /api/models/ORG/NAME/revision/REVISION and /ORG/NAME/resolve/REVISION/FILE."""

    def do_HEAD(self):
        self.hub.requests.append(f"{self.command} {unquote(self.path)}")
        path = self.path.split("?")[0].removeprefix("/api/models").strip("/")
        org, name, kind, revision, *file = map(unquote, path.split("/"))
        repository = f"{org}/{name}"
        status = next((s for end, s in self.hub.failures.items() if path.endswith(end)), None)
        if status and self.command == "GET":
            return self.answer(status, b"<html>")
        if repository not in {known for known, _ in self.hub.revisions}:
            return self.answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        commit = self.hub.revisions.get((repository, revision))
        if commit is None:
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        files = self.hub.files[repository, commit]
        if kind == "revision":
            siblings = [{"rfilename": file} for file in files]
            info = {"id": repository, "sha": commit, "siblings": siblings}
            return self.answer(200, json.dumps(info).encode())
        if self.hub.token and self.headers["Authorization"] != f"Bearer {self.hub.token}":
            return self.answer(401, b"", {"X-Error-Code": "GatedRepo"})
        content = files["/".join(file)]
        etag = hashlib.sha1(content).hexdigest()
        return self.answer(200, content, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    do_GET = do_HEAD

    def answer(self, status, content, headers=None):
        self.send_response(status)
        for header, value in {"Content-Length": len(content), **(headers or {})}.items():
            self.send_header(header, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that huggingface_hub talks to, with an empty cache and without a token."""
    hub = Hub()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()  # the next one sees the environment above
    yield hub
    hub.stop()


def contents(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def refusal(source, function=fetch):
    """The line that fetch raises."""
    with pytest.raises(InputError) as error:
        function(source)
    message = str(error.value)
    assert message.startswith(f"{source}: ")
    assert "\n" not in message
    return message


def test_only_what_a_hugging_face_model_needs_is_downloaded(hub):
    hub.push("org/clip", HUGGING_FACE | CLUTTER | {"pytorch_model.bin": b"the same again"})
    directory = fetch("hf://org/clip")
    assert contents(directory) == HUGGING_FACE
    assert hub.downloads() == sorted(HUGGING_FACE)


def test_of_timms_repositories_the_image_tower_alone_is_left(hub):
    tower = {"model.safetensors": b"tower", "pytorch_model.bin": b"tower", "config.json": b"{}"}
    other = {"open_clip_pytorch_model.bin": b"both towers again"}
    hub.push("timm/clip.openai", OPEN_CLIP | tower | other | CLUTTER)
    assert contents(fetch("hf://timm/clip.openai")) == OPEN_CLIP | {"config.json": b"{}"}


def test_a_second_fetch_downloads_nothing(hub):
    hub.push("org/clip", HUGGING_FACE)
    directory = fetch("hf://org/clip")
    hub.requests.clear()
    assert fetch("hf://org/clip") == directory
    assert hub.downloads() == []
    assert len(hub.requests) == 2


def test_a_new_commit_is_noticed(hub):
    hub.push("org/clip", HUGGING_FACE)
    old = fetch("hf://org/clip")
    hub.requests.clear()
    hub.push("org/clip", HUGGING_FACE | {"model.safetensors": b"trained longer"})
    new = fetch("hf://org/clip")
    assert hub.downloads() == ["model.safetensors"]
    assert (new / "model.safetensors").read_bytes() == b"trained longer"
    assert contents(old) == HUGGING_FACE


def test_a_revision_pins(hub):
    hub.push("org/clip", HUGGING_FACE | {"model.safetensors": b"first"}, "v1.0")
    commit = hub.push("org/clip", HUGGING_FACE | {"model.safetensors": b"second"}, "refs/pr/2")
    hub.push("org/clip", HUGGING_FACE | {"model.safetensors": b"third"})
    expected = {"@v1.0": b"first", "@refs/pr/2": b"second", f"@{commit}": b"second", "": b"third"}
    for _ in ("from the hub", "from the cache"):
        for revision, weights in expected.items():
            assert (fetch(f"hf://org/clip{revision}") / "model.safetensors").read_bytes() == weights
        constants.HF_HUB_OFFLINE = True


def test_what_is_cached_needs_no_hub(hub, capfd):
    hub.push("org/clip", HUGGING_FACE)
    directory = fetch("hf://org/clip")
    capfd.readouterr()
    hub.stop()
    assert fetch("hf://org/clip") == directory
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_what_is_cached_serves_when_the_hub_fails(hub, status):
    hub.push("org/clip", OPEN_CLIP)
    directory = fetch("hf://org/clip")
    hub.failures["/revision/main"] = status
    assert fetch("hf://org/clip") == directory


def test_files_that_another_program_cached_serve(hub):
    hub.push("org/clip", OPEN_CLIP)
    huggingface_hub.hf_hub_download("org/clip", "open_clip_config.json")
    path = huggingface_hub.hf_hub_download("org/clip", "open_clip_model.safetensors")
    constants.HF_HUB_OFFLINE = True
    assert fetch("hf://org/clip") == Path(path).parent


def test_not_cached_and_offline(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refusal("hf://org/clip")
    assert "not in the cache, and HF_HUB_OFFLINE is set; unset it" in message
    assert "`hf download org/clip --local-dir DIRECTORY`" in message
    assert hub.requests == []


def test_not_cached_and_unreachable(hub):
    hub.stop()
    message = refusal("hf://org/clip")
    assert f"not in the cache, and {hub.url} cannot be reached (" in message
    assert "refused" in message
    assert "`hf download org/clip --local-dir DIRECTORY`" in message


def test_a_hub_that_does_not_answer_is_given_up(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.1)
    end = threading.Event()
    monkeypatch.setattr(HubHandler, "do_GET", lambda handler: end.wait(5))
    assert "cannot be reached (timed out)" in refusal("hf://org/clip")
    end.set()


def test_half_a_model_in_the_cache_is_none(hub):
    hub.push("org/clip", HUGGING_FACE)
    hub.failures["model.safetensors"] = 500
    assert f"{hub.url} answers with error 500; try later" in refusal("hf://org/clip")
    constants.HF_HUB_OFFLINE = True
    assert "not in the cache" in refusal("hf://org/clip")
    constants.HF_HUB_OFFLINE = False
    hub.failures.clear()
    hub.requests.clear()
    assert contents(fetch("hf://org/clip")) == HUGGING_FACE
    assert hub.downloads() == ["model.safetensors"]


def test_no_such_repository(hub):
    message = refusal("hf://org/nothing")
    assert f"no such repository at {hub.url}, or a private one; check the name" in message
    assert "`hf auth login`" in message


def test_no_such_revision(hub):
    hub.push("org/clip", HUGGING_FACE)
    fetch("hf://org/clip")
    assert "no such revision; give a branch" in refusal("hf://org/clip@v9")


def test_a_gated_repository_wants_a_token(hub, monkeypatch):
    hub.push("org/gated", HUGGING_FACE)
    hub.token = "hf_secret"
    message = refusal("hf://org/gated")
    assert f"ask for it at {hub.url}/org/gated, then log in with `hf auth login`" in message
    assert "HF_TOKEN" in message
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert contents(fetch("hf://org/gated")) == HUGGING_FACE


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "refuses access (403); log in with `hf auth login` or set HF_TOKEN"),
        (404, "answers with error 404; try later, or download it on another machine"),
        (503, "answers with error 503; try later, or download it on another machine"),
        (200, "does not answer as a hub does; check the network and HF_ENDPOINT"),
    ],
)
def test_other_answers(hub, status, message):
    hub.failures["/revision/main"] = status
    assert f"{hub.url} {message}" in refusal("hf://org/clip")


def test_a_cache_that_cannot_be_written(hub, tmp_path, monkeypatch):
    hub.push("org/clip", HUGGING_FACE)
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    message = refusal("hf://org/clip")
    assert f"the download to {tmp_path}/file/cache failed" in message
    assert "Not a directory" in message


def test_a_failing_xet_transfer_is_one_line(hub, monkeypatch):
    """Xet's Rust library, which moves large files, raises RuntimeError."""

    def fail(*args, **options):
        raise RuntimeError("Task error: CAS Client Error\nand more")

    hub.push("org/clip", HUGGING_FACE)
    monkeypatch.setattr("clip_jax.hub.hf_hub_download", fail)
    assert "failed (Task error: CAS Client Error); check disk and" in refusal("hf://org/clip")


@pytest.mark.parametrize(
    "files",
    [
        CLUTTER,
        {"model.safetensors": b"and nothing else"},
        {"config.json": CONFIG, "model.msgpack": b""},
        {"open_clip_config.json": b"{}", "config.json": b"{}", "model.safetensors": b"tower"},
    ],
)
def test_a_repository_without_clip_weights(hub, files):
    hub.push("org/other", files)
    assert "holds no CLIP; a repository with open_clip_config.json" in refusal("hf://org/other")
    assert hub.downloads() == []


@pytest.mark.parametrize(
    ("config", "kind"),
    [(b'{"model_type": "bert"}', "'bert'"), (b"[]", "None"), (b"\xff", "None"), (b"{}", "None")],
)
def test_other_models_are_refused_before_their_weights_are_downloaded(hub, config, kind):
    hub.push("org/bert", HUGGING_FACE | {"config.json": config})
    assert f"not a CLIP; its config.json has model_type {kind}" in refusal("hf://org/bert")
    assert hub.downloads() == ["config.json"]


def test_a_vocabulary_comes_without_weights(hub):
    hub.push("org/bert", HUGGING_FACE | CLUTTER | {"config.json": b"{}"})
    directory = local_vocabulary("hf://org/bert")
    assert contents(directory) == TOKENIZER
    constants.HF_HUB_OFFLINE = True
    assert local_vocabulary("hf://org/bert") == directory
    assert "not in the cache" in refusal("hf://org/bert")


def test_a_vocabulary_may_be_sentencepieces(hub):
    hub.push("org/words", CLUTTER | {"tokenizer.model": b"pieces"})
    directory = local_vocabulary("hf://org/words")
    assert contents(directory) == {"tokenizer.model": b"pieces"}
    constants.HF_HUB_OFFLINE = True
    assert local_vocabulary("hf://org/words") == directory


def test_a_repository_without_vocabulary(hub):
    hub.push("org/other", {"config.json": CONFIG, "model.safetensors": b"weights"})
    assert "holds no vocabulary; a repo" in refusal("hf://org/other", local_vocabulary)
    assert "no such repository" in refusal("hf://org/nothing", local_vocabulary)


def test_a_vocabulary_on_this_machine_is_left_where_it_is(tmp_path):
    assert local_vocabulary(tmp_path) == local_vocabulary(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    "source",
    [
        "",
        "org/clip",
        "hf://",
        "hf://clip",
        "hf:///clip",
        "hf://org/",
        "hf://org/clip/config.json",
        "hf://org/clip@",
        "hf://org/clip@../../main",
        "hf://org/clip@refs/../../main",
        "hf://org/clip@/etc/main",
        "hf://org/clip@a b",
        "hf://org/clip\n",
        "hf://../clip",
        "hf://-org/clip",
        "hf://org/clip--x",
        "hf://org/cl\u00efp",
    ],
)
def test_names_that_are_none_are_refused(hub, source):
    with pytest.raises(
        InputError, match=r"write hf://org/name or hf://org/name@revision$"
    ) as error:
        fetch(source)
    assert repr(source) in str(error.value)
    assert hub.requests == []


def test_huggingface_hubs_own_variables_are_honoured(hub, tmp_path):
    """In a process of its own, as they are read on import."""
    hub.push("org/clip", HUGGING_FACE)
    program = "from clip_jax.weights.hub import fetch; print(fetch('hf://org/clip'))"
    home = str(tmp_path / "home")
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": home, "PYTHONPATH": str(ROOT)}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    for offline in ("0", "1"):
        environment["HF_HUB_OFFLINE"] = offline
        command = [sys.executable, "-c", program]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        directory = Path(run.stdout.strip())
        assert contents(directory) == HUGGING_FACE
        assert directory.is_relative_to(Path(home).resolve())
        assert len(hub.requests) > 0 if offline == "0" else hub.requests == []
        hub.requests.clear()


SHARDS = [f"model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]
BIN_SHARDS = [f"pytorch_model-{i:05d}-of-00002.bin" for i in (1, 2)]


@pytest.mark.parametrize(
    ("names", "needed"),
    [
        (
            ["config.json", "model.safetensors", "model.safetensors.index.json", *SHARDS],
            ["config.json", "model.safetensors"],
        ),
        (
            ["config.json", "pytorch_model.bin", "model.safetensors.index.json", *SHARDS],
            ["config.json", "model.safetensors.index.json", *SHARDS],
        ),
        (
            ["config.json", "pytorch_model.bin", "model.safetensors.index.json", *SHARDS[1:]],
            ["config.json", "pytorch_model.bin"],
        ),
        (
            ["config.json", "pytorch_model.bin", *SHARDS],
            ["config.json", "pytorch_model.bin"],
        ),
        (
            ["config.json", "pytorch_model.bin.index.json", *BIN_SHARDS, "x/model.safetensors"],
            ["config.json", "pytorch_model.bin.index.json", *BIN_SHARDS],
        ),
        (["config.json", "pytorch_model.bin.index.json", BIN_SHARDS[0]], []),
        (["config.json", "model.safetensors.index.json"], []),
        (
            ["open_clip_config.json", "open_clip_pytorch_model.bin", "model.safetensors"],
            ["open_clip_config.json", "open_clip_pytorch_model.bin"],
        ),
        (
            ["config.json", "spiece.model", "old/spiece.model", "model.safetensors"],
            ["config.json", "spiece.model", "model.safetensors"],
        ),
        (
            [
                "special_tokens_map.json",
                "model.safetensors",
                "tokenizer_config.json",
                "config.json",
            ],
            [
                "config.json",
                "special_tokens_map.json",
                "tokenizer_config.json",
                "model.safetensors",
            ],
        ),
        ([], []),
    ],
)
def test_needed_files(names, needed):
    assert needed_files(names) == needed


POOL = [
    *(HUGGING_FACE | OPEN_CLIP | CLUTTER),
    *("open_clip_pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin"),
    *SHARDS,
]


@given(names=st.lists(st.sampled_from(POOL), unique=True))
def test_of_any_files_one_form_of_the_weights_is_needed(names):
    needed = needed_files(names)
    weights = [name for name in needed if name.endswith((".safetensors", ".bin"))]
    assert set(needed) <= set(names) - set(CLUTTER)
    assert len(set(needed)) == len(needed)
    assert needed == needed_files(set(names) - set(CLUTTER))
    assert bool(weights) == bool(needed)
    assert len(weights) <= 1 or weights == SHARDS
    if needed:
        assert needed[0] in ("config.json", "open_clip_config.json")
        assert set(TOKENIZER) & set(names) <= set(needed)
    if "open_clip_config.json" in names:
        assert all(name.startswith("open_clip_") for name in weights)


def test_openais_nine():
    names = "RN50 RN101 RN50x4 RN50x16 RN50x64 ViT-B/32 ViT-B/16 ViT-L/14 ViT-L/14@336px"
    assert list(OPENAI_REPOSITORIES) == names.split()
    assert len(set(OPENAI_REPOSITORIES.values())) == 9
    for name, repository in OPENAI_REPOSITORIES.items():
        tower = name.replace("RN", "resnet") + "_clip"
        if name.startswith("ViT"):
            size = {"B": "base", "L": "large"}[name[4]]
            resolution = 336 if name.endswith("@336px") else 224
            tower = f"vit_{size}_patch{name[6:8]}_clip_{resolution}"
        assert repository == f"timm/{tower}.openai"
