"""Runs on videos: started from a model of single images, continued exactly, used afterwards."""

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest
from shards import encode, refusal, solid, write_tar

import clip_jax
from clip_jax import VideoConfig
from clip_jax.data.augment import Augment
from clip_jax.data.sources.moving_scenes import TrainingMovingScenes
from clip_jax.data.text.tokenizers import train_sentencepiece
from clip_jax.evaluation.run import run_retrieval, run_zeroshot
from clip_jax.models.presets import PRESETS
from clip_jax.parallel.mesh import MeshConfig
from clip_jax.training.config import CheckpointConfig, DataConfig, TrainConfig
from clip_jax.training.loop import train
from clip_jax.training.metrics import StepLogger, read_metrics
from clip_jax.training.optimizer import OptimizerConfig

TINY, FRAMES = PRESETS["ViT-tiny"], 4


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A saved model of single images, whose vocabulary knows the words."""
    source = TrainingMovingScenes(16, FRAMES)
    captions = [source.captions(i)[0] for i in range(300)]
    tokenizer = train_sentencepiece(captions, 64, TINY.text.context_length)
    text = dataclasses.replace(TINY.text, vocab_size=tokenizer.vocab_size)
    model = clip_jax.create(dataclasses.replace(TINY, text=text))
    clip_jax.save(
        dataclasses.replace(model, tokenizer=tokenizer),
        folder := tmp_path_factory.mktemp("m") / "m",
    )
    return folder


def recipe(workdir, images, time, **changes):
    base = TrainConfig(
        model=dataclasses.replace(TINY, video=VideoConfig(FRAMES, time, layers=2, heads=4)),
        init_from=str(images),
        data=DataConfig(train="moving_scenes:", augment=Augment(min_crop_area=0.8)),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=1),
        steps=4,
        batch_size=8,
        mesh=MeshConfig(data=4, fsdp=2),
        checkpoint=CheckpointConfig(every=2),
        log_every=1,
        workdir=str(workdir),
    )
    return dataclasses.replace(base, **changes)


def losses(workdir):
    lines = read_metrics(workdir / "metrics.jsonl")
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def runs(images, tmp_path_factory):
    """A finished run for each place of time, its workdir and its model."""
    found = {}
    for time in ("none", "after", "inside", "beside"):
        workdir = tmp_path_factory.mktemp(time)
        found[time] = workdir, train(recipe(workdir, images, time))
    return found


def test_all_start_from_the_same_loss_and_then_part(runs):
    first, last = (
        {time: losses(workdir)[step] for time, (workdir, _) in runs.items()} for step in (0, -1)
    )
    np.testing.assert_allclose([*first.values()], first["none"], rtol=1e-5)
    assert len({round(loss, 6) for loss in last.values()}) == 4


@pytest.mark.parametrize("time", ["after", "inside", "beside"])
def test_a_workdir_is_loaded_as_it_was_trained(runs, time):
    workdir, model = runs[time]
    loaded = clip_jax.load(workdir)
    assert loaded.config == model.config
    assert "video" in loaded.params
    pixels = np.random.default_rng(0).integers(0, 256, (2, FRAMES, 16, 16, 3), np.uint8)
    np.testing.assert_allclose(
        loaded.encode_image(pixels), model.encode_image(pixels), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        loaded.encode_image(loaded.preprocess(list(pixels[0]))[None]),
        loaded.encode_image(pixels[:1]),
        rtol=1e-4,
        atol=1e-5,
    )
    message = refusal(clip_jax.save, loaded, workdir / "out")
    assert f"time '{time}' is kept in its workdir" in message
    assert not (workdir / "out").exists()
    assert "4 frames cannot read 8" in refusal(lambda: clip_jax.load(workdir, frames=8))
    assert "from 1 to 1024" in refusal(lambda: clip_jax.load(workdir, frames=0))
    assert "before the projection" in refusal(lambda: loaded.encode_image(pixels, project=False))
    with pytest.raises(ValueError, match=r"must be \[n, 4, 16, 16, 3\]"):
        loaded.encode_image(pixels[0])


def test_the_average_alone_is_saved_as_the_clip_that_it_is(runs, tmp_path):
    workdir, model = runs["none"]
    clip_jax.save(clip_jax.load(workdir), tmp_path / "out")
    again = clip_jax.load(tmp_path / "out", frames=FRAMES)
    pixels = np.random.default_rng(0).integers(0, 256, (2, FRAMES, 16, 16, 3), np.uint8)
    np.testing.assert_allclose(
        again.encode_image(pixels), model.encode_image(pixels), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("time", ["none", "beside"])
def test_evaluation_reads_videos_with_such_a_model(runs, time):
    _, model = runs[time]
    result, examples = run_zeroshot(model, "it", "moving_scenes:")
    assert result.metrics.keys() == {"acc1", "acc5", "mean_per_class_recall"}
    assert len(examples) == 10
    if time == "none":
        assert result.metrics["acc1"] <= 0.5
    result, _ = run_retrieval(model, "it", "moving_scenes:")
    assert 0 <= result.metrics["text_retrieval_recall@5"] <= 1


def test_an_interrupted_run_continues_as_if_it_had_not_been(runs, images, tmp_path, monkeypatch):
    workdir, model = runs["inside"]
    push = StepLogger.push

    def interrupted(self, number, metrics):
        push(self, number, metrics)
        if number == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(StepLogger, "push", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe(tmp_path, images, "inside"))
    continued = train(recipe(tmp_path, images, "inside"))
    assert losses(tmp_path) == losses(workdir)
    jax.tree.map(np.testing.assert_array_equal, continued.params, model.params)


def test_a_model_of_time_is_trained_further_alone_and_as_the_same_kind_only(runs, tmp_path):
    workdir, before = runs["after"]
    alone = OptimizerConfig(1e-2, warmup_steps=0, rates=(("^(image|text)/", 0.0),))
    after = train(recipe(tmp_path / "a", workdir, "after", optimizer=alone, steps=1))
    for tower in ("image", "text"):
        jax.tree.map(np.testing.assert_array_equal, after.params[tower], before.params[tower])
    change = jax.tree.map(
        lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max(),
        after.params["video"],
        before.params["video"],
    )
    assert 1e-3 < max(jax.tree.leaves(change)) < 2e-2
    message = refusal(train, recipe(tmp_path / "b", workdir, "inside"))
    assert "video.time after there, inside here" in message


def test_broken_videos_are_replaced_and_counted(images, tmp_path):
    members = []
    for number in range(40):
        frames = [encode(solid(number)), b"broken" if number % 4 == 0 else encode(solid(number))]
        members += [(f"{number}.{i}.png", frame) for i, frame in enumerate(frames)]
        members.append((f"{number}.txt", b"a red circle growing"))
    data = DataConfig(train=f"wds:{write_tar(tmp_path / 'a.tar', members)}")
    train(recipe(tmp_path / "work", images, "none", data=data))
    line = read_metrics(tmp_path / "work" / "metrics.jsonl")[-1]
    assert line["bad_samples"] > 0
