"""Whole runs on a few pictures: what they leave behind, that they continue, what they refuse."""

import dataclasses
import errno
import itertools
import json
import os
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from corrupt import WRONG
from shards import encode, solid, write_tar

import clip_jax
from clip_jax import CLIPConfig, InputError, ResNetConfig, TextConfig, ViTConfig
from clip_jax.data import bad
from clip_jax.data.augment import Augment
from clip_jax.data.bad import REASONS
from clip_jax.data.images import Resize
from clip_jax.data.pipeline import Batches
from clip_jax.data.sources.spec import open_pairs
from clip_jax.data.text.tokenizers import SentencePieceTokenizer
from clip_jax.models.config import BagOfWordsConfig, DecoderConfig
from clip_jax.parallel.mesh import MeshConfig
from clip_jax.training import lengths, loop, profile
from clip_jax.training.assemble import build_step
from clip_jax.training.checkpoints import Checkpoints
from clip_jax.training.config import CheckpointConfig, DataConfig, EvaluationConfig, TrainConfig
from clip_jax.training.lengths import LengthGroups
from clip_jax.training.loop import make_workdir, train
from clip_jax.training.metrics import StepLogger, read_metrics
from clip_jax.training.optimizer import OptimizerConfig

RECIPE = TrainConfig(
    model=CLIPConfig(
        embed_dim=16,
        image=ViTConfig(image_size=16, patch_size=8, width=16, layers=2, heads=2),
        text=TextConfig(width=16, layers=2, heads=2, context_length=16),
    ),
    data=DataConfig(vocab_size=64, augment=Augment(min_crop_area=0.8)),
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=2),
    steps=6,
    batch_size=8,
    mesh=MeshConfig(data=2, fsdp=2, tensor=2),
    checkpoint=CheckpointConfig(every=2, keep=2),
    log_every=1,
)

RESNET = dataclasses.replace(RECIPE.model, image=ResNetConfig(32, 4, (1, 1, 1, 1), heads=4))
BIASED = dataclasses.replace(RECIPE.model, initial_logit_scale=10, initial_logit_bias=-10)

RATES = "samples_per_second", "input_wait"


def recipe(workdir, **changes):
    return dataclasses.replace(RECIPE, workdir=str(workdir), **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed, with its model."""
    workdir = tmp_path_factory.mktemp("run") / "work"
    evaluation = EvaluationConfig(retrieval=("scenes:",))
    return workdir, train(recipe(workdir, evaluation=evaluation))


def loss_lines(workdir):
    lines = read_metrics(workdir / "metrics.jsonl")
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def train_interrupted(monkeypatch, config, step):
    """Train, and stop after `step` updates as Ctrl-C would."""
    push = StepLogger.push

    def interrupted(self, number, metrics):
        push(self, number, metrics)
        if number == step:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(StepLogger, "push", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config)


def test_a_run_leaves_metrics_checkpoints_results_and_pictures(finished):
    workdir, _ = finished
    *lines, evaluation = read_metrics(workdir / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    required = {"loss", "logit_scale", "learning_rate", *RATES, "samples_seen"}
    assert all(required <= line.keys() for line in lines)
    assert lines[-1]["samples_seen"] == 48
    assert sorted(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*")) == [4, 6]
    result = json.loads((workdir / "results" / "scenes-zeroshot_retrieval.json").read_text())
    assert 0 <= result["metrics"]["image_retrieval_recall@5"] <= 1
    named = {"step": 6, "task": "zeroshot_retrieval", "dataset": "scenes"}
    assert evaluation == named | result["metrics"]
    for picture in ("loss.png", "similarity.png"):
        assert (workdir / picture).read_bytes().startswith(b"\x89PNG")
    assert list((workdir / "tensorboard").glob("events*"))


def test_evaluations_on_the_way_are_made_once_also_by_a_continued_run(
    finished, tmp_path, monkeypatch
):
    """Killed after the checkpoint of step 4, which was not evaluated yet."""
    sets = EvaluationConfig(retrieval=("scenes:",), every=2)
    config = recipe(tmp_path / "work", evaluation=sets)
    train_interrupted(monkeypatch, config, 4)
    train(config)
    lines = read_metrics(tmp_path / "work" / "metrics.jsonl")
    evaluated = [line for line in lines if "task" in line]
    assert [line["step"] for line in evaluated] == [2, 4, 6]
    last = read_metrics(finished[0] / "metrics.jsonl")[-1]
    assert evaluated[-1] == last
    assert loss_lines(tmp_path / "work") == loss_lines(finished[0])


def timeless(workdir):
    """The lines of a run's metrics while it trained, but for how fast it was."""
    lines = [line for line in read_metrics(workdir / "metrics.jsonl") if "task" not in line]
    return [{k: v for k, v in line.items() if k not in RATES} for line in lines]


def test_the_same_recipe_gives_the_same_bits_twice(finished, tmp_path):
    undisturbed, model = finished
    again = train(recipe(tmp_path))
    assert timeless(tmp_path) == timeless(undisturbed)
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)


def test_a_profiled_run_computes_the_same(finished, tmp_path, monkeypatch, capsys):
    undisturbed, _ = finished
    monkeypatch.setattr(profile, "WARM_UP", 2)
    monkeypatch.setattr(profile, "STEPS", 2)
    train(recipe(tmp_path, profile=True))
    assert timeless(tmp_path) == timeless(undisturbed)
    said = capsys.readouterr().out
    assert "2 steps of " in said
    for kind in ("products", "attention", "elementwise", "collectives"):
        assert f"\n  {kind} " in said


@pytest.mark.parametrize("step", [3, 4])
def test_an_interrupted_run_continues_as_if_it_had_not_been(finished, tmp_path, monkeypatch, step):
    undisturbed, model = finished
    train_interrupted(monkeypatch, recipe(tmp_path), step)
    continued = train(recipe(tmp_path))
    assert loss_lines(tmp_path) == loss_lines(undisturbed)
    jax.tree.map(np.testing.assert_array_equal, continued.params, model.params)


def test_a_run_continues_on_another_mesh(finished, tmp_path, monkeypatch):
    undisturbed, _ = finished
    train_interrupted(monkeypatch, recipe(tmp_path), 4)
    train(recipe(tmp_path, mesh=MeshConfig(data=8)))
    expected = loss_lines(undisturbed)
    for step, loss in loss_lines(tmp_path).items():
        np.testing.assert_allclose(loss, expected[step], rtol=1e-4)


def test_micro_batches_change_no_loss(finished, tmp_path):
    train(recipe(tmp_path, micro_batch=1))
    expected, actual = loss_lines(finished[0]), loss_lines(tmp_path)
    np.testing.assert_allclose([*actual.values()], [*expected.values()], rtol=1e-4)


def test_captions_in_groups_by_length_change_no_loss(tmp_path, monkeypatch):
    """Also where a batch has too many long ones, and across an interruption."""
    monkeypatch.setattr(lengths, "GROUP_COST", 0)
    monkeypatch.setattr(lengths, "DEVIATIONS", -0.2)
    arranged, arrange = [], LengthGroups.arrange
    monkeypatch.setattr(
        LengthGroups, "arrange", lambda *given: arranged.append(arrange(*given)) or arranged[-1]
    )
    members = []
    for number in range(64):
        caption = "one after the other after the other" if number % 4 == 0 else f"{number}"
        image = encode(solid(number, (16, 16)))
        members += [(f"{number:02}.png", image), (f"{number:02}.txt", caption.encode())]
    spec = f"wds:{write_tar(tmp_path / 'pairs.tar', members)}"
    data = dataclasses.replace(RECIPE.data, train=spec)
    runs = {
        count: recipe(tmp_path / str(count), data=data, batch_size=16, text_groups=count)
        for count in (1, 2)
    }
    train(runs[1])
    assert all("order" not in texts for texts in arranged)
    arranged.clear()
    train_interrupted(monkeypatch, runs[2], 3)
    train(runs[2])
    assert any(texts is None for texts in arranged)
    assert any(texts is not None and "order" in texts for texts in arranged)
    expected, actual = loss_lines(tmp_path / "1"), loss_lines(tmp_path / "2")
    np.testing.assert_allclose([*actual.values()], [*expected.values()], rtol=1e-5)


def pairs_with_bad_samples(folder, every):
    """200 pairs of which one in so many cannot be used, for ten reasons in turn.

    In a shard, but for those that cannot be read: of these a table names files that are not there.
    """
    members, rows = [], [("filepath", "title")]
    for number in range(200):
        image, caption = encode(solid(number, (16, 16))), f"number {number}"
        if number % every == 0:
            _, wrong = WRONG[number // every % 10]
            image, caption = (image, wrong) if isinstance(wrong, str) else (wrong, caption)
        if isinstance(image, OSError):
            rows.append((f"{number}.png", caption))
        else:
            members += [(f"{number:03}.png", image), (f"{number:03}.txt", caption.encode())]
    shard, table = write_tar(folder / "pairs.tar", members), folder / "pairs.csv"
    table.write_text("".join("\t".join(row) + "\n" for row in rows))
    return f"wds:{shard}", f"csv:{table}"


def bad_lines(workdir):
    lines = read_metrics(workdir / "metrics.jsonl")
    return [{k: n for k, n in line.items() if k.startswith("bad_samples")} for line in lines]


def test_bad_samples_are_counted_as_they_are_used_also_by_a_continued_run(tmp_path, monkeypatch):
    """One in twenty, in ten ways, over two epochs; stopped and continued twice."""
    train_on = pairs_with_bad_samples(tmp_path / "pairs", every=20)
    changes = {"data": dataclasses.replace(RECIPE.data, train=train_on), "batch_size": 64}
    train(recipe(tmp_path / "whole", **changes))
    for step in (1, 4):
        train_interrupted(monkeypatch, recipe(tmp_path / "parts", **changes), step)
    train(recipe(tmp_path / "parts", **changes))
    source, numbers = open_pairs(train_on, 16), NumberTokenizer()
    batches = Batches(source, numbers, Resize(16), 64, RECIPE.seed, RECIPE.data.augment)
    total, expected = np.zeros(len(REASONS), int), []
    for batch in itertools.islice(batches.start_at(0), RECIPE.steps):
        total += batch.bad.sum(axis=0)
        by_reason = {f"bad_samples/{r}": n for r, n in zip(REASONS, total, strict=True) if n}
        expected.append({"bad_samples": total.sum()} | by_reason)
    assert total.min() >= 1
    assert 10 <= total.sum() <= 22  # of 384 that are drawn, and those in place of bad ones
    assert bad_lines(tmp_path / "whole") == bad_lines(tmp_path / "parts") == expected
    assert loss_lines(tmp_path / "whole") == loss_lines(tmp_path / "parts")


class NumberTokenizer:
    """Captions "number 7" -> rows [7]."""

    vocab_size, context_length = 200, 1

    def __call__(self, texts, truncate=False):
        return np.array([[int(text.split()[-1])] for text in texts], np.int32)


def test_too_many_bad_samples_stop_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(bad, "MIN_BAD", 10)
    data = dataclasses.replace(
        RECIPE.data, train=pairs_with_bad_samples(tmp_path / "pairs", every=2)
    )
    with pytest.raises(InputError, match=r"of \d\d samples are bad .* --data.max-bad 0.1 .* exam"):
        train(recipe(tmp_path / "work", data=data))
    assert len(loss_lines(tmp_path / "work")) < RECIPE.steps
    tolerant = dataclasses.replace(data, max_bad=0.9)  # it goes on where it was saved
    train(recipe(tmp_path / "work", data=tolerant))
    assert len(loss_lines(tmp_path / "work")) == RECIPE.steps


def spoil(monkeypatch, steps):
    """Have the loss of these steps be no number."""

    def build(*recipe):
        made = build_step(*recipe)

        def step(state, batch):
            if int(state.step) + 1 not in steps:
                return made(state, batch)
            scale = state.params["logit_scale"]
            broken = state.replace(params=state.params | {"logit_scale": scale * jnp.nan})
            kept = jnp.copy(scale)
            after, metrics = made(broken, batch)
            return after.replace(params=after.params | {"logit_scale": kept}), metrics

        return step

    monkeypatch.setattr(loop, "build_step", build)


def with_vocabulary_of(finished):
    """A new run's data, with a vocabulary that need not be trained."""
    vocabulary = finished[0] / "tokenizer" / "tokenizer.model"
    return dataclasses.replace(RECIPE.data, tokenizer=str(vocabulary))


def test_updates_that_are_not_finite_are_skipped_and_not_saved(finished, tmp_path, monkeypatch):
    """Of too many in a row the run stops, and what was saved before stays the newest."""
    data, keep_all = with_vocabulary_of(finished), CheckpointConfig(every=2, keep=9)
    spoil(monkeypatch, {3, 4})
    train(recipe(tmp_path / "few", data=data, checkpoint=keep_all, max_skipped=4))
    lines = read_metrics(tmp_path / "few" / "metrics.jsonl")
    assert [line["skipped_updates"] for line in lines] == [0, 0, 1, 2, 2, 2]
    assert sorted(path.name for path in (tmp_path / "few/checkpoints").iterdir()) == ["2", "6"]
    spoil(monkeypatch, {3, 4, 5, 6})
    message = r"the last 2 updates were skipped.*--optimizer.clip-norm.* --init-from"
    with pytest.raises(InputError, match=message):
        train(recipe(tmp_path / "many", data=data, max_skipped=2))
    assert [path.name for path in (tmp_path / "many/checkpoints").iterdir()] == ["2"]


def test_a_run_whose_last_updates_are_not_finite_fails_whenever_it_is_called(tmp_path, monkeypatch):
    spoil(monkeypatch, {4, 5, 6})
    for _ in range(2):
        with pytest.raises(InputError, match="the last 3 updates were skipped"):
            train(recipe(tmp_path, max_skipped=3, log_every=6))
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(finished, tmp_path, capsys):
    undisturbed, model = finished
    workdir = shutil.copytree(undisturbed, tmp_path / "work")
    (workdir / "checkpoints/6/state/manifest.ocdbt").unlink()
    with pytest.raises(InputError, match=r"checkpoints/6: is damaged \(.*; move it away"):
        clip_jax.load(workdir)
    again = train(recipe(workdir))
    assert "the run continues from step 4" in capsys.readouterr().err
    assert loss_lines(workdir) == loss_lines(undisturbed)
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)


def test_a_run_that_lost_all_checkpoints_says_so(finished, tmp_path, monkeypatch, capsys):
    workdir = shutil.copytree(finished[0], tmp_path / "work")
    shutil.rmtree(workdir / "checkpoints")
    train_interrupted(monkeypatch, recipe(workdir, data=with_vocabulary_of(finished)), 1)
    told = capsys.readouterr().err
    assert f"{workdir}: has no checkpoint; the run starts from the beginning\n" in told
    assert re.search(r"^stopped after step 1, saved in \d+\.\d s$", told, re.M)


CAPTIONING = dataclasses.replace(RECIPE.model, decoder=DecoderConfig(1))
PREDICTING = {
    "bag_of_words": dataclasses.replace(RECIPE.model, text=BagOfWordsConfig(context_length=16)),
    "caption": dataclasses.replace(
        CAPTIONING, text=dataclasses.replace(RECIPE.model.text, read="none")
    ),
    "coca": CAPTIONING,
}


@pytest.mark.parametrize("objective", ["bag_of_words", "coca"])
def test_models_that_predict_words_train_and_are_kept(objective, tmp_path):
    model = PREDICTING[objective]
    trained = train(recipe(tmp_path / "work", objective=objective, model=model, steps=3))
    values = loss_lines(tmp_path / "work")
    assert values[3] < values[1]
    kept = clip_jax.load(tmp_path / "work")
    assert kept.config == trained.config
    assert jax.tree.all(jax.tree.map(np.array_equal, kept.params, trained.params))


def test_any_checkpoint_of_a_run_loads_as_a_model(finished):
    workdir, model = finished
    before, last = (clip_jax.load(workdir / "checkpoints" / step) for step in ("4", "6"))
    same = [
        jax.tree.all(jax.tree.map(np.array_equal, model.params, kept.params))
        for kept in (before, last)
    ]
    assert same == [False, True]
    assert (before.tokenize("a cat") == model.tokenize("a cat")).all()


def test_siglip_s_objective_trains_and_its_bias_is_kept(tmp_path):
    model = train(recipe(tmp_path, objective="sigmoid", model=BIASED))
    assert model.params["logit_bias"] != -10
    again = clip_jax.load(tmp_path)
    assert float(again.params["logit_bias"]) == float(model.params["logit_bias"])


def test_a_finished_run_is_left_as_it_is(finished):
    workdir, model = finished
    before = (workdir / "metrics.jsonl").read_text()
    again = train(recipe(workdir))
    assert (workdir / "metrics.jsonl").read_text() == before
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)


def test_the_workdir_loads_as_a_model(finished):
    workdir, trained = finished
    model = clip_jax.load(workdir)
    jax.tree.map(np.testing.assert_array_equal, model.params, trained.params)
    assert model.config == trained.config
    assert model.config.text.vocab_size == model.tokenizer.vocab_size
    tokens = model.tokenize(["a red circle above a blue square"])
    expected = trained.encode_text(tokens, normalize=True)
    np.testing.assert_allclose(model.encode_text(tokens, normalize=True), expected, atol=1e-5)
    assert len(jax.tree.leaves(model.params)[0].sharding.device_set) == 1


def test_the_vocabulary_is_kept_or_taken_from_a_file(finished, tmp_path):
    workdir, _ = finished
    vocabulary = workdir / "tokenizer" / "tokenizer.model"
    data = dataclasses.replace(RECIPE.data, tokenizer=str(vocabulary))
    train(recipe(tmp_path, data=data, steps=3))
    kept = tmp_path / "tokenizer" / "tokenizer.model"
    assert kept.read_bytes() == vocabulary.read_bytes()


def test_a_run_starts_from_weights_at_another_size_with_a_locked_tower(
    finished, tmp_path, monkeypatch
):
    """LiT from a finished run, at twice its resolution, with its vocabulary."""
    before, weights = finished[1], tmp_path / "weights"
    shutil.copytree(finished[0], weights)
    given = clip_jax.load(weights, image_size=32)
    assert given.params["image"]["position_embedding"].shape == (17, 16)
    workdir = tmp_path / "work"
    (workdir / "tokenizer").mkdir(parents=True)
    (workdir / "tokenizer" / "vocab.json").write_text("of a run that never saved")
    larger = dataclasses.replace(RECIPE.model.image, image_size=32)
    changes = {
        "init_from": str(weights),
        "model": dataclasses.replace(RECIPE.model, image=larger),
        "optimizer": OptimizerConfig(1e-2, warmup_steps=0, rates=(("^image/", 0.0),)),
        "steps": 2,
    }
    train_interrupted(monkeypatch, recipe(workdir, **changes), 1)
    assert [path.name for path in (workdir / "tokenizer").iterdir()] == ["tokenizer.model"]
    shutil.rmtree(weights)  # continuing needs them no more: they are in the checkpoint
    after = train(recipe(workdir, **changes))
    assert after.tokenizer.model == given.tokenizer.model
    jax.tree.map(np.testing.assert_array_equal, after.params["image"], given.params["image"])
    assert (after.params["text"]["projection"] != before.params["text"]["projection"]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_from": "nowhere"}, "nowhere: no such model"),
        (
            {"model": dataclasses.replace(RECIPE.model, embed_dim=8)},
            "not the recipe's architecture .embed_dim 16 there, 8 here",
        ),
        ({"model": dataclasses.replace(RECIPE.model, activation="gelu")}, "with quick_gelu, not"),
        ({"optimizer": OptimizerConfig(1e-2, 2, rates=(("^img/", 0.0),))}, "'.img/' fits no param"),
        ({"optimizer": OptimizerConfig(1e-2, 2, rates=(("(", 0.0),))}, "'.' is no regular expr"),
        ({"optimizer": OptimizerConfig(1e-2, 2, rates=(("a", -1.0),))}, "'a' is negative"),
    ],
)
def test_weights_that_do_not_fit_the_recipe_are_refused(finished, tmp_path, changes, message):
    changes = {"init_from": str(finished[0])} | changes
    with pytest.raises(InputError, match=message):
        train(recipe(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 7}, "steps 6 there, 7 here"),
        ({"seed": 1}, "seed 0 there, 1 here"),
        ({"optimizer": OptimizerConfig(2e-2, 2)}, r"optimizer.learning_rate 0.01 there, 0.02"),
    ],
)
def test_another_recipe_in_the_workdir_is_refused(finished, changes, message):
    workdir, _ = finished
    with pytest.raises(InputError, match=message):
        train(recipe(workdir, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 6}, "batch_size 6 is not divisible by the 4 parts"),
        ({"batch_size": 1}, "at least 2"),
        ({"micro_batch": 0}, "micro_batch must be at least 1"),
        ({"batch_size": 24, "micro_batch": 4}, "micro_batch 4 does not divide .* 6; set .* 3"),
        ({"model": RESNET, "micro_batch": 1}, "set --model.image.frozen-statistics"),
        ({"objective": "sigmoid"}, "set --model.initial-logit-bias -10"),
        ({"model": BIASED}, "initial_logit_bias is for --objective sigmoid"),
        ({"objective": "coca"}, "embeddings; set --objective contrastive or sigmoid, or start"),
        ({"model": PREDICTING["caption"]}, "this one makes captions; set --objective caption"),
        ({"caption_weight": -1.0}, "caption_weight must not be negative"),
        ({"caption_weight": 1.0}, "caption_weight is for --objective coca"),
        ({"evaluation": EvaluationConfig(("scenes:",), every=0)}, "every must be at least 1"),
        ({"evaluation": EvaluationConfig(every=2)}, "evaluation.every has nothing to evaluate"),
        (
            {
                "objective": "caption",
                "model": PREDICTING["caption"],
                "evaluation": EvaluationConfig(retrieval=("scenes:",)),
            },
            "makes captions of images and no embeddings of texts",
        ),
        ({"steps": 2}, "warmup_steps 2 leaves nothing of 2 steps"),
        ({"log_every": 0}, "log_every must be at least 1"),
        (
            {"data": DataConfig(augment=Augment(min_crop_area=0))},
            r"augment.min_crop_area must be in \(0, 1\]",
        ),
        ({"data": DataConfig(augment=Augment(templates=("a photo",)))}, "has no {c}"),
        ({"data": DataConfig(train="wds:nowhere.tar")}, "nowhere.tar: no such file"),
        ({"data": DataConfig(tokenizer="nowhere.model")}, "nowhere.model: No such file"),
        ({"mesh": MeshConfig(data=3)}, "does not fit 8 devices"),
        (
            {"model": dataclasses.replace(RECIPE.model, image=ViTConfig(16, 5, 16, 2, 2))},
            "patch_size 5 does not divide",
        ),
    ],
)
def test_contradictions_are_refused_in_one_line(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        train(recipe(tmp_path / "work", **changes))
    assert "\n" not in str(caught.value)
    assert (
        not (tmp_path / "work" / "checkpoints").exists()
        or not Checkpoints(tmp_path / "work", RECIPE.checkpoint).steps()
    )


def test_a_device_that_runs_out_of_memory_says_what_to_do(tmp_path, monkeypatch):
    def step(state, batch):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(loop, "build_step", lambda *recipe: step)
    with pytest.raises(InputError, match=r"command with --dry-run here .* says which parts fit"):
        train(recipe(tmp_path / "work"))


def test_a_disk_that_is_full_from_the_start_says_where(tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SentencePieceTokenizer, "save", full)
    with pytest.raises(InputError, match=rf"^{tmp_path}: No space left on device; make room"):
        train(recipe(tmp_path))


def test_a_workdir_that_processes_do_not_share_is_refused(tmp_path, monkeypatch):
    """Each of several hosts has a directory of that name; the first one's is another's."""
    with monkeypatch.context() as patch:
        patch.setattr(jax, "process_index", lambda: 1)
        with pytest.raises(InputError, match="not that of process 0; give a workdir that all"):
            make_workdir(str(tmp_path))
    assert make_workdir(str(tmp_path)) == tmp_path
    assert not list(tmp_path.iterdir())


def test_a_file_cannot_be_the_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be the workdir"):
        train(recipe(tmp_path / "file"))
