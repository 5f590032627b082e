"""train.py and eval.py as commands: what bad input gets, the options, a finished run.

Most calls run the script in this process, as `python script.py` would; a few start their own, to
see all that reaches standard error.
"""

import contextlib
import dataclasses
import json
import os
import runpy
import subprocess
import sys
import typing
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest
from shards import encode, solid, write_classification, write_pairs, write_retrieval, write_tar

from clip_jax.commandline import load_recipe, main, parse
from clip_jax.data.sources.webdataset import WebDatasetPairs
from clip_jax.data.text.tokenizers import train_sentencepiece
from clip_jax.errors import InputError
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.training.checkpoints import Checkpoints
from clip_jax.training.config import TrainConfig
from clip_jax.training.feed import BadCount
from clip_jax.training.loop import Run, make_workdir

ROOT = Path(__file__).parents[1]
DEMO = str(ROOT / "configs" / "demo.py")
TINY = """
from clip_jax.models.presets import PRESETS
from clip_jax.training.config import CheckpointConfig, DataConfig, TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

config = TrainConfig(
    model=PRESETS["ViT-tiny"],
    data=DataConfig(train={data!r}, vocab_size=64),
    optimizer=OptimizerConfig(warmup_steps=1),
    steps=2,
    batch_size=8,
    workdir={workdir!r},
    checkpoint=CheckpointConfig(every=2),
    log_every=1,
)
"""


def in_process(script, *arguments):
    """The exit code of a script that runs in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *arguments])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / script), run_name="__main__")
    return stop.value.code or 0


def subprocess_of(script, *arguments, devices=1):
    """A script in its own process, on simulated CPU devices."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, str(ROOT / script), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture
def refused(capfd):
    """A function: run a script in this process; the one line with which it refuses."""

    def run(script, *arguments):
        capfd.readouterr()
        assert in_process(script, *arguments) == 2
        return one_line(capfd.readouterr().err, script)

    return run


def one_line(errors, script):
    """What standard error holds, if it is one line by the script."""
    assert errors.count("\n") == 1, errors
    assert errors.endswith("\n")
    assert errors.startswith(f"{script}: ")
    return errors.removeprefix(f"{script}: ").strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shards, a recipe for them, and evaluation sets."""
    folder = tmp_path_factory.mktemp("scripts")
    captions = ["a cat", "a dog", "a tree", "a red house", "the quick brown fox"] * 4
    write_pairs(folder / "pairs.tar", captions)
    pictures = [(f"{number}.png", encode(solid(number))) for number in range(3)]
    write_tar(folder / "pictures.tar", pictures)
    write_tar(folder / "texts.tar", [("0.txt", b"a caption")])
    write_pairs(folder / "wordless.tar", ["", " "])
    write_classification(folder / "pets", [0, 1, 2, 1])
    write_retrieval(folder / "found", [["a cat", "cat"], ["a dog"]])
    recipe = TINY.format(data=f"wds:{folder}/pairs.tar", workdir=f"{folder}/run")
    (folder / "tiny.py").write_text(recipe)
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    """The workdir that a finished run of tiny.py leaves, with made-up numbers for its training."""
    config = load_recipe(f"{folder}/tiny.py", TrainConfig)
    workdir, source = make_workdir(config.workdir), WebDatasetPairs(f"{folder}/pairs.tar")
    mesh, tokenizer = make_mesh(MeshConfig(), jax.devices()[:1]), train_tokenizer(config, source)
    tokenizer.save(workdir / "tokenizer")
    run, rng = Run(config, mesh, workdir, source, tokenizer), np.random.default_rng(0)
    state = jax.tree.map(
        lambda leaf: jax.device_put(rng.normal(size=leaf.shape).astype(leaf.dtype), leaf.sharding),
        run.abstract(),
    )
    with contextlib.closing(Checkpoints(workdir, config.checkpoint)) as checkpoints:
        checkpoints.save(config.steps, state, run.describe(BadCount(mesh, {})))
    lines = [{"step": step, "loss": 1 / step, "logit_scale": 14.3} for step in (1, 2)]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return workdir


def train_tokenizer(config, source):
    """The vocabulary that a recipe's captions give."""
    captions = [caption for index in range(len(source)) for caption in source.captions(index)]
    length = config.model.text.context_length
    return train_sentencepiece(captions, config.data.vocab_size, length)


# --- bad input: in processes of their own


def test_a_batch_that_the_mesh_does_not_divide(folder):
    done = subprocess_of("train.py", f"{folder}/tiny.py", "--batch-size", "6", devices=8)
    assert done.returncode == 2
    line = one_line(done.stderr, "train.py")
    assert line.startswith("batch_size 6 is not divisible by the 8 parts")
    assert "--batch-size 8" in line


def test_a_tar_without_images(folder):
    spec = f"wds:{folder}/texts.tar"
    done = subprocess_of("train.py", f"{folder}/tiny.py", "--data.train", spec)
    assert done.returncode == 2
    line = one_line(done.stderr, "train.py")
    assert line.startswith(f"{folder}/texts.tar: no sample with an image")


def test_evaluating_a_model_that_is_not_there(folder):
    done = subprocess_of("eval.py", "zeroshot", "--model", f"{folder}/none", "--data", "scenes:")
    assert done.returncode == 2
    assert one_line(done.stderr, "eval.py").startswith(f"{folder}/none: no such model")


# --- bad input: in this process


def test_train_needs_a_recipe(refused, tmp_path):
    assert refused("train.py").startswith("give a recipe")
    assert refused("train.py", "--steps", "3").startswith("give a recipe")
    missing = str(tmp_path / "none.py")
    assert refused("train.py", missing).startswith(f"{missing}: no such recipe")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rte", "1"], "unrecognized"),
        (["--optimizer.learning-rat", "1"], "did you mean --optimizer.learning-rate"),
        (["--steps", "many"], "many"),
        (["--steps"], "--steps"),
        (["--model.activation", "tanh"], "tanh"),
    ],
)
def test_unknown_fields_and_values(refused, arguments, message):
    line = refused("train.py", DEMO, *arguments)
    assert message in line
    assert line.endswith("--help)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "steps must be at least 1"),
        (["--batch-size", "1"], "batch_size must be at least 2"),
        (["--steps", "1"], "warmup_steps 1 leaves nothing of 1 steps"),
        (["--data.augment.min-crop-area", "0"], "data.augment.min_crop_area must be in"),
        (["--model.image.patch-size", "5"], "patch_size 5 does not divide"),
        (["--model.text.heads", "5"], "heads 5 does not divide"),
        (["--mesh.data", "3"], "does not fit 8 devices"),
    ],
)
def test_contradictions(refused, folder, tmp_path, arguments, message):
    workdir = tmp_path / "run"
    arguments = ["--workdir", str(workdir), *arguments]
    assert message in refused("train.py", f"{folder}/tiny.py", *arguments)
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("wds:{}/none", "/none: no such file or directory"),
        ("wds:{}/{{0..3}}.tar", "/0.tar: no such file or directory"),
        ("nowhere", "nowhere: no such data"),
        ("wds:{}/pictures.tar", "most lack the caption"),
        ("wds:{}/tiny.py", "/tiny.py: not a readable, uncompressed tar"),
        ("wds:{}/wordless.tar", "hold no caption"),
        ("csv:{}/tiny.py", "/tiny.py: no column 'filepath'"),
        ("folder:{}/none", "/none: no such directory"),
    ],
)
def test_data_that_cannot_be_trained_on(refused, folder, tmp_path, data, message):
    spec = data.format(folder)
    arguments = ["--data.train", spec, "--workdir", str(tmp_path / "run")]
    assert message in refused("train.py", f"{folder}/tiny.py", *arguments)


def test_workdirs_and_vocabularies_that_cannot_be(refused, folder, tmp_path):
    recipe = f"{folder}/tiny.py"
    (tmp_path / "file").write_text("not a folder")
    line = refused("train.py", recipe, "--workdir", str(tmp_path / "file"))
    assert line.startswith(f"{tmp_path}/file: cannot be the workdir")
    workdir = ["--workdir", str(tmp_path / "run")]
    line = refused("train.py", recipe, *workdir, "--data.tokenizer", str(tmp_path / "file"))
    assert line.startswith(f"{tmp_path}/file: merge 1 is not two pieces")


def test_a_workdir_with_another_recipe_s_checkpoint(refused, trained):
    recipe = f"{trained.parent}/tiny.py"
    line = refused("train.py", recipe, "--seed", "1", "--optimizer.beta2", "0.9")
    assert line.startswith(f"{trained}: holds a run of another recipe")
    assert "seed 0 there, 1 here" in line
    assert "optimizer.beta2 0.98 there, 0.9 here" in line
    write_pairs(trained.parent / "fewer.tar", ["a cat", "a dog"])
    line = refused("train.py", recipe, "--data.train", f"{trained.parent}/fewer.tar")
    assert "data of 20 pairs" in line
    assert " there, 2 pairs" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "zeroshot"),
        (["guess"], "guess"),
        (["probe", "--model", "{}/run", "--data", "{}/pets"], "train/nshards.txt: missing"),
        (
            ["fewshot", "--model", "no", "--data", "no", "--output", "r.png"],
            "r.png: is JSON; charts",
        ),
        (["zeroshot", "--data", "scenes:"], "--model"),
        (
            ["zeroshot", "--model", "no", "--data", "no", "--output", "{}/tiny.py/r.json"],
            "/tiny.py/r.json: cannot write there",
        ),
        (
            ["zeroshot", "--model", "{}/run/checkpoints", "--data", "scenes:"],
            "/run/checkpoints: no model; give the run's workdir, or a checkpoint such as",
        ),
        (
            ["zeroshot", "--model", "{}", "--data", "scenes:"],
            "no model; expected the workdir of a train.py run",
        ),
        (["zeroshot", "--model", "{}/run", "--data", "{}/found"], "evaluate it with eval.py retr"),
        (["retrieval", "--model", "{}/run", "--data", "{}/pets"], "evaluate it with eval.py zero"),
        (["retrieval", "--model", "{}/run", "--data", "{}/none"], "/none: no such data"),
        (
            ["retrieval", "--model", "{}/run", "--data", "{}/found", "--recall-at", "1", "4"],
            "found: no recall@4 among 2 images and 3 captions; give numbers from 1 to 2",
        ),
        (
            [
                *("zeroshot", "--model", "{}/run", "--data", "{}/pets"),
                *("--templates", "{}/pets/classnames.txt"),
            ],
            "/pets/classnames.txt: template 'cat' has no {c} for the class name",
        ),
        (["suite", "--model", "{}/run", "--data", "{}/run"], "/run: no data set at or below it"),
        (
            ["classify", "--model", "none", "--images", "{}/run", "--labels", "cat,dog"],
            "/run: no pictures",
        ),
        (
            ["caption", "--model", "none", "--images", "{}/run", "--beams", "0"],
            "beams must be at least 1",
        ),
        (
            ["caption", "--model", "none", "--images", "{}/run", "--top-p", "0.5"],
            "top_p is of method nucleus, not of greedy",
        ),
        (["search", "--model", "none", "--index", "{}/none", "--unique"], "/none: no index"),
    ],
)
def test_evaluations_that_cannot_be(refused, trained, arguments, message):
    arguments = [argument.format(trained.parent) for argument in arguments]
    assert message in refused("eval.py", *arguments)


# --- good input


def options(kind, prefix=""):
    """The options that the fields of a dataclass must have, nested ones dotted."""
    types = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name = prefix + field.name.replace("_", "-")
        members = (types[field.name], *typing.get_args(types[field.name]))
        nested = [member for member in members if dataclasses.is_dataclass(member)]
        if nested:  # of a union, the recipe's member, which is the first
            yield from options(nested[0], f"{name}.")
        else:
            yield f"--{name}"


def test_help_names_every_field(capsys, monkeypatch):
    """Of recipes of videos and captions, too; the others have none of the fields of these."""
    monkeypatch.setenv("COLUMNS", "200")
    for recipe in ("moving_scenes.py", "objectives/caption.py"):
        assert in_process("train.py", str(ROOT / "configs" / recipe), "--help") == 0
    words = capsys.readouterr().out.replace(",", " ").split()
    wanted = list(options(TrainConfig))
    assert len(wanted) > 30
    assert [option for option in wanted if option not in words] == []


def test_help_without_a_recipe(capsys):
    assert in_process("train.py", "--help") == 0
    assert "python train.py configs/NAME.py" in capsys.readouterr().out
    assert in_process("eval.py", "--help") == 0
    help_text = capsys.readouterr().out
    assert "zeroshot" in help_text
    tasks = ("retrieval", "suite", "probe", "fewshot", "robustness", "classify", "caption")
    assert {*tasks, "search"} <= set(help_text.split())


def test_overrides_reach_the_recipe():
    default = load_recipe(DEMO, TrainConfig)
    arguments = ["--optimizer.learning-rate", "0.5", "--model.text.layers", "7", "--mesh.fsdp", "2"]
    config = parse(TrainConfig, arguments, "train.py", default)
    assert config == dataclasses.replace(
        default,
        optimizer=dataclasses.replace(default.optimizer, learning_rate=0.5),
        model=dataclasses.replace(
            default.model, text=dataclasses.replace(default.model.text, layers=7)
        ),
        mesh=dataclasses.replace(default.mesh, fsdp=2),
    )


def test_one_source_or_several():
    default = load_recipe(DEMO, TrainConfig)
    one = parse(TrainConfig, ["--data.train", "wds:a"], "train.py", default).data
    assert one == dataclasses.replace(default.data, train="wds:a")
    arguments = ["--data.train", "wds:a", "csv:b", "--data.weights", "1", "3"]
    several = parse(TrainConfig, arguments, "train.py", default).data
    assert several == dataclasses.replace(
        default.data, train=("wds:a", "csv:b"), weights=(1.0, 3.0)
    )


@pytest.mark.parametrize("recipe", sorted((ROOT / "configs").rglob("*.py")), ids=lambda p: p.stem)
def test_every_recipe_can_be_loaded(recipe):
    assert isinstance(load_recipe(str(recipe), TrainConfig), TrainConfig)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a recipe must set config = TrainConfig\(...\)"),
        ("config = {'steps': 3}", r"a recipe must set config = TrainConfig\(...\)"),
        ("1 / 0", "ZeroDivisionError"),
        ("config = (", "SyntaxError"),
        ("import no_such_module", "no_such_module"),
    ],
)
def test_broken_recipes(tmp_path, text, message):
    path = tmp_path / "recipe.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_recipe(str(path), TrainConfig)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_trained_model_is_evaluated_into_a_file(trained, tmp_path, capsys):
    output = tmp_path / "result.json"
    arguments = ["--model", str(trained), "--data", f"wds:{trained.parent}/found"]
    assert in_process("eval.py", "retrieval", *arguments, "--output", str(output)) == 0
    result = json.loads(output.read_text())
    metrics = {"image_retrieval_recall@1", "text_retrieval_recall@1"}
    assert set(result.pop("metrics")) == metrics
    assert result == {
        "dataset": "found",
        "task": "zeroshot_retrieval",
        "model": str(trained),
        "pretrained": "",
        "language": "en",
    }
    table = capsys.readouterr().out
    assert all(metric in table for metric in metrics)


def test_prompts_of_one_s_own(trained, tmp_path):
    output, names, own = (tmp_path / name for name in ("result.json", "names", "own.json"))
    names.write_text("fox\ntree\nhouse")
    own.write_text(json.dumps({"fox": ["a quick fox"], "tree": ["a tree"], "house": ["a", "b"]}))
    arguments = ["--model", str(trained), "--data", f"{trained.parent}/pets", "--no-cache"]
    arguments += ["--classnames", str(names), "--templates", str(own), "--output", str(output)]
    assert in_process("eval.py", "zeroshot", *arguments) == 0
    assert set(json.loads(output.read_text())["metrics"]) == {"acc1", "mean_per_class_recall"}


def test_a_suite_of_two_sets(trained, tmp_path, capsys):
    arguments = ["--model", str(trained), "--data", str(trained.parent), "--no-cache"]
    assert in_process("eval.py", "suite", *arguments, "--output", str(tmp_path / "out")) == 0
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")
    table = capsys.readouterr().out
    assert "pets" in table
    assert "found" in table


def test_one_s_own_pictures(trained, tmp_path, capsys):
    for number in range(3):
        path = tmp_path / "pictures" / f"class{number}" / "picture.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode(solid(number)))
    pictures = ["--model", str(trained), "--images", str(tmp_path / "pictures")]
    sheet, page = tmp_path / "sheet.png", tmp_path / "page.html"
    labels = ["--labels", "fox,tree", "--sheet", str(sheet)]
    assert in_process("eval.py", "classify", *pictures, *labels) == 0
    assert sheet.is_file()
    asked = ["--index", str(tmp_path / "index"), "--text", "a fox", "--page", str(page)]
    assert in_process("eval.py", "search", *pictures, *asked) == 0
    assert page.read_text().count("<img") == 3
    data = ["--model", str(trained), "--data", f"folder:{tmp_path}/pictures", "--by-class"]
    assert in_process("eval.py", "zeroshot", *data, "--output", f"{tmp_path}/result.json") == 0
    assert (tmp_path / "result.csv").read_text().startswith("class,images,a photo of a {c}.")
    assert "class2" in capsys.readouterr().out


def test_calling_a_finished_run_again_trains_nothing(trained):
    lines = (trained / "metrics.jsonl").read_text()
    assert in_process("train.py", f"{trained.parent}/tiny.py") == 0
    assert (trained / "metrics.jsonl").read_text() == lines
    with PIL.Image.open(trained / "loss.png") as picture:
        picture.load()


def test_messages_are_one_line_that_no_terminal_obeys(capsys):
    def run(arguments):
        raise InputError("shards/\x1b[2J\n0.tar: damaged \udcff")

    assert main("train.py", run) == 2
    assert capsys.readouterr().err == "train.py: shards/\\x1b[2J\\n0.tar: damaged \\udcff\n"
