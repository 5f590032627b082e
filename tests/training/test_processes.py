"""train.py and eval.py as several processes: the same numbers as one process, stop and go."""

import json
import signal
import time

import numpy as np
import PIL.Image
import pytest
from processes import running, together
from shards import encode, write_tar

from clip_jax.evaluation.embed import on_all_devices
from clip_jax.evaluation.run import run_retrieval, run_zeroshot
from clip_jax.loading import load
from clip_jax.training.metrics import read_metrics

STEPS, BATCH = 12, 16
RECIPE = """
from clip_jax import CLIPConfig, TextConfig, ViTConfig
from clip_jax.training.config import CheckpointConfig, DataConfig, TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

config = TrainConfig(
    model=CLIPConfig(
        embed_dim=16,
        image=ViTConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2),
        text=TextConfig(width=16, layers=1, heads=2, context_length=16),
    ),
    data=DataConfig(train="wds:{folder}/pairs.tar", vocab_size=64),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=2),
    steps={steps},
    batch_size={batch},
    checkpoint=CheckpointConfig(every=100),
    log_every=1,
)
"""
CLASSES = ("cat", "dog", "tree", "red house", "quick brown fox")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pairs, evaluation sets and a recipe; more images than two batches of evaluation."""
    folder = tmp_path_factory.mktemp("processes")
    pictures = [picture(number) for number in range(150)]
    captions = [f"a {CLASSES[number % 5]} number {number}" for number in range(150)]
    write_samples(folder / "pairs.tar", pictures[:40], {"txt": captions})
    write_samples(folder / "pets/test/0.tar", pictures, {"cls": [n % 5 for n in range(150)]})
    write_samples(folder / "found/test/0.tar", pictures, {"txt": captions})
    for name in ("pets", "found"):
        (folder / name / "test/nshards.txt").write_text("1")
    (folder / "pets/classnames.txt").write_text("\n".join(CLASSES))
    (folder / "pets/zeroshot_classification_templates.txt").write_text("a {c}\n{c}")
    (folder / "found/dataset_type.txt").write_text("retrieval")
    recipe = RECIPE.format(folder=folder, steps=STEPS, batch=BATCH)
    (folder / "recipe.py").write_text(recipe)
    return folder


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
    return encode(PIL.Image.fromarray(pixels))


def write_samples(path, pictures, fields):
    members = []
    for number, content in enumerate(pictures):
        members.append((f"{number:04}.png", content))
        for field, values in fields.items():
            members.append((f"{number:04}.{field}", str(values[number]).encode()))
    write_tar(path, members)


def command(folder, name, *options):
    return ["train.py", f"{folder}/recipe.py", "--workdir", f"{folder}/{name}", *options]


def losses(folder, name):
    lines = read_metrics(folder / name / "metrics.jsonl")
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.fixture(scope="module")
def expected(folder):
    """Losses of the run on one device."""
    (ended,) = together(command(folder, "1x1"), 1, 1)
    assert ended.code == 0, ended.errors
    values = losses(folder, "1x1")
    assert list(values) == list(range(1, STEPS + 1))
    assert np.ptp(list(values.values())) > 0.05
    return values


def check(folder, name, expected):
    """Step by step the losses of one device, up to float32's rounding."""
    found = losses(folder, name)
    assert list(found) == list(expected)
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=2e-5)


def interrupted(folder, name, processes, devices, number, sign):
    """A run of which the last process gets a signal once a file is there; the step of the stop."""
    workdir = folder / name
    with running(command(folder, name), processes, devices) as group:
        wait_for(workdir / sign, group.processes[0])
        group.processes[-1].send_signal(number)
        ended = group.wait()
    assert [process.code for process in ended] == [130] * processes, ended
    assert all(process.errors.endswith("train.py: interrupted\n") for process in ended)
    (saved,) = (workdir / "checkpoints").glob("[0-9]*")
    assert list(losses(folder, name)) == list(range(1, int(saved.name) + 1))
    return int(saved.name)


def wait_for(path, process):
    """Until the file is there, a process still running."""
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.parametrize(("processes", "devices"), [(1, 8), (4, 2)])
def test_losses_do_not_depend_on_processes_and_devices(folder, expected, processes, devices):
    name = f"{processes}x{devices}"
    ended = together(command(folder, name), processes, devices)
    assert [process.code for process in ended] == [0] * processes, ended
    check(folder, name, expected)


def test_one_device_stops_and_two_processes_go_on(folder, expected):
    """The two split each layer over both of them, and read the same rows."""
    assert interrupted(folder, "2x4", 1, 1, signal.SIGINT, "metrics.jsonl") < STEPS
    data = f"wds:{folder}/pets"
    first, other = together(
        command(folder, "2x4", "--mesh.tensor=8", f"--evaluation.zeroshot={data}"), 2, 4
    )
    assert (first.code, other.code) == (0, 0), (first, other)
    check(folder, "2x4", expected)
    check_reports(folder / "2x4", first, other)
    # 150 images in batches of 128: the second process has none in the last batch.
    results = folder / "2x4" / "results" / "pets-zeroshot_classification.json"
    model = load(folder / "2x4")
    for each in (model, on_all_devices(model)):
        alone, _ = run_zeroshot(each, "", data)
        assert json.loads(results.read_text())["metrics"] == alone.metrics


def check_reports(workdir, first, other):
    """Of two processes, the first one alone has reported and drawn."""
    assert f"step {STEPS}/{STEPS}" in first.errors
    assert "acc1" in first.output
    assert "acc1" not in other.output
    assert len(other.errors.splitlines()) == 1  # that it waits for the others
    for name in ("loss.png", "similarity.png"):
        with PIL.Image.open(workdir / name) as image:
            image.load()


def test_two_processes_stop_together_and_one_goes_on(folder, expected):
    """The last process alone is asked to, at a moment when JAX alone listens."""
    sign = "tokenizer/tokenizer.model"
    assert interrupted(folder, "2to1", 2, 1, signal.SIGTERM, sign) < STEPS
    (ended,) = together(command(folder, "2to1"), 1, 1)
    assert ended.code == 0, ended.errors
    check(folder, "2to1", expected)


def test_eval_as_two_processes(folder, expected, tmp_path, monkeypatch):
    """Both protocols, and a classifier that the first process keeps."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    output = tmp_path / "out"
    options = ["--model", f"{folder}/1x1", "--data", f"{folder}/pets", f"{folder}/found"]
    first, other = together(["eval.py", "suite", *options, "--output", str(output)], 2, 2)
    assert (first.code, other.code) == (0, 0), (first, other)
    model = load(folder / "1x1")
    pets, _ = run_zeroshot(model, "", f"{folder}/pets")
    found, _ = run_retrieval(model, "", f"{folder}/found")
    for result in (pets, found):
        (file,) = output.glob(f"*/{result.dataset}-{result.task}.json")
        assert json.loads(file.read_text())["metrics"] == result.metrics
    assert "mean_recall@1" in first.output
    assert "mean_recall@1" not in other.output
    assert len(list((tmp_path / "cache/clip_jax/classifiers").iterdir())) == 1
    assert (output / "report.html").is_file()


def test_processes_with_different_recipes_are_refused(folder):
    recipe = (folder / "recipe.py").read_text()
    (folder / "two.py").write_text(
        "import sys\n"
        + recipe.replace("steps=2)", "steps=2 + ('--processes.index=1' in sys.argv))")
    )
    ended = together(["train.py", f"{folder}/two.py", "--workdir", f"{folder}/none"], 2, 1)
    assert [process.code for process in ended] == [2, 2]
    for process in ended:
        assert "(optimizer.warmup_steps 2 there, 3 here)" in process.errors.splitlines()[-1]
    assert not (folder / "none").exists()
