"""load and save as a user calls them: the reference libraries' features, and what is refused."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest
from safetensors.numpy import load_file, save_file
from tensors import section, spread_error, variables_from

import clip_jax
from clip_jax import CLIPConfig, InputError, Model, ResNetConfig, TextConfig, ViTConfig
from clip_jax.data.text.bpe import BPETokenizer
from clip_jax.data.text.tokenizers import train_sentencepiece
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.config import PreprocessConfig
from clip_jax.weights import hub, workdir

GOLDEN = Path(__file__).parent / "golden"
CAPTIONS = ["a red circle above a blue square", "fish & chips", "the quick brown fox"]

TEXT = TextConfig(width=24, layers=2, heads=3, context_length=12, vocab_size=50)
VIT = CLIPConfig(16, ViTConfig(24, 8, width=16, layers=2, heads=2), TEXT)

OPEN_CLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 24,
            "layers": 2,
            "width": 16,
            "head_width": 8,
            "patch_size": 8,
        },
        "text_cfg": {"context_length": 12, "vocab_size": 50, "width": 24, "heads": 3, "layers": 2},
    },
    "preprocess_cfg": {"interpolation": "bilinear", "resize_mode": "squash", "mean": [0, 0.5, 1]},
}


def golden(name):
    return dict(np.load(GOLDEN / f"{name}.npz"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same small models in the files of the libraries that they come from."""
    base = tmp_path_factory.mktemp("files")
    folder = base / "open_clip"
    folder.mkdir()
    save_file(section(golden("towers"), "tensor"), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(OPEN_CLIP_CONFIG))
    folder = base / "huggingface"
    folder.mkdir()
    arrays = golden("huggingface")
    save_file(section(arrays, "tensor"), folder / "model.safetensors")
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_text(str(arrays[f"file/{name}"]))
    (base / "openai.pt").write_bytes(golden("openai")["file/script.pt"].tobytes())
    return base


def assert_features(model, arrays):
    with jax.default_matmul_precision("highest"):
        image = model.encode_image(arrays["images"])
        text = model.encode_text(arrays["tokens"].astype(np.int32))
    assert spread_error(image, arrays["image_features"]) < 1e-5
    assert spread_error(text, arrays["text_features"]) < 1e-5


def assert_equal_models(actual, expected):
    assert actual.config == expected.config
    assert jax.tree.structure(actual.variables) == jax.tree.structure(expected.variables)
    jax.tree.map(np.testing.assert_array_equal, actual.variables, expected.variables)


def test_transformers_features_and_files(files, tmp_path):
    model = clip_jax.load(files / "huggingface")
    assert model.config.activation == "gelu"
    np.testing.assert_allclose(model.logit_scale, np.exp(2.75), rtol=1e-6)
    assert_features(model, golden("huggingface"))
    clip_jax.save(model, tmp_path)
    saved, original = (
        load_file(f / "model.safetensors") for f in (tmp_path, files / "huggingface")
    )
    assert saved.keys() == original.keys()
    for name, tensor in original.items():
        np.testing.assert_array_equal(saved[name], tensor, strict=True)
    assert_equal_models(clip_jax.load(tmp_path), model)


def test_open_clip_s_variables_through_both_layouts(files, tmp_path):
    """That these variables give open_clip's features is tests/models/test_clip.py's."""
    model = clip_jax.load(str(files / "open_clip"))
    variables = variables_from(section(golden("towers"), "tensor"), VIT)
    jax.tree.map(np.testing.assert_array_equal, model.variables, variables)
    for layout in ("huggingface", "open_clip"):
        clip_jax.save(model, tmp_path / layout, layout=layout)
        assert_equal_models(clip_jax.load(tmp_path / layout), model)


def test_openai_s_features_also_at_another_resolution(files):
    arrays = golden("openai")
    assert_features(clip_jax.load(files / "openai.pt"), arrays)
    larger = clip_jax.load(files / "openai.pt", image_size=40)
    assert larger.config.image.image_size == larger.resize.size == 40
    with jax.default_matmul_precision("highest"):
        features = larger.encode_image(arrays["images_at_40"])
    assert spread_error(features, arrays["image_features_at_40"]) < 1e-5


@functools.cache
def random_variables(config):
    rng = np.random.default_rng(0)
    init = functools.partial(init_variables, CLIP(config))
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def random_model(config, tokenizer=None):
    """A model that nothing had to be compiled for."""
    return Model(config, tokenizer=tokenizer, **random_variables(config))


RESNET = CLIPConfig(16, ResNetConfig(64, width=2, layers=(3, 1, 1, 2), heads=4), TEXT, "gelu")


def test_a_resnet_travels_and_changes_its_resolution(tmp_path):
    model = random_model(RESNET)
    clip_jax.save(model, tmp_path, layout="open_clip")
    assert_equal_models(clip_jax.load(tmp_path), model)
    larger = clip_jax.load(tmp_path, image_size=128)
    positions = larger.params["image"]["attention_pool"]["position_embedding"]
    assert positions.shape == (17, 64)


def reference_pixels(picture, size, filter, mean, std):
    """Preprocessing to 24 pixels, by Pillow and numpy alone."""
    picture = picture.resize(size, filter)
    left, top = (round((length - 24) / 2) for length in size)
    pixels = np.asarray(picture.crop((left, top, left + 24, top + 24)), np.float64) / 255
    return (pixels - np.array(mean)) / np.array(std)


def test_preprocessing_travels_with_the_weights(files, tmp_path):
    picture = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8))
    bilinear, std = PIL.Image.Resampling.BILINEAR, (0.26862954, 0.26130258, 0.27577711)
    expected = {
        "huggingface": ((24, 28), bilinear, (0.5, 0.4, 0.3), (0.25, 0.26, 0.27)),
        "open_clip": ((24, 24), bilinear, (0, 0.5, 1), std),
    }
    for name, how in expected.items():
        model = clip_jax.load(files / name)
        pixels = reference_pixels(picture, *how)
        np.testing.assert_allclose(model.preprocess(picture)[0], pixels, atol=1e-5)
        for layout in ("huggingface", "open_clip"):
            clip_jax.save(model, tmp_path / name / layout, layout=layout)
            again = clip_jax.load(tmp_path / name / layout)
            np.testing.assert_allclose(again.preprocess(picture)[0], pixels, atol=1e-5)


def test_padding_travels_in_open_clip_s_layout(tmp_path):
    preprocess = PreprocessConfig(resize_mode="longest", fill=200)
    model = random_model(dataclasses.replace(VIT, preprocess=preprocess))
    clip_jax.save(model, tmp_path, layout="open_clip")
    wide = PIL.Image.new("RGB", (48, 24), "white")
    pixels = clip_jax.load(tmp_path).resize(wide)
    assert (pixels[:6] == 200).all()
    assert (pixels[6:18] == 255).all()


@pytest.fixture(scope="module", params=["pairs", "pieces"])
def tokenizer(request):
    if request.param == "pairs":
        return BPETokenizer([("a", "n"), ("t", "h"), ("th", "e</w>")], 12)
    return train_sentencepiece(CAPTIONS, 60, 12)


@pytest.mark.parametrize("layout", ["huggingface", "open_clip"])
def test_the_vocabulary_travels_with_the_weights(tmp_path, tokenizer, layout):
    text = dataclasses.replace(TEXT, vocab_size=tokenizer.vocab_size)
    model = random_model(dataclasses.replace(VIT, text=text), tokenizer)
    clip_jax.save(model, tmp_path, layout=layout)
    for source in (tmp_path, next(tmp_path.glob("*model.safetensors"))):
        again = clip_jax.load(source)
        ids = again.tokenize(CAPTIONS, truncate=True)
        np.testing.assert_array_equal(ids, tokenizer(CAPTIONS, truncate=True))
        assert ids.shape == (3, 12)


def test_a_vocabulary_may_lie_elsewhere(tmp_path, tokenizer):
    text = dataclasses.replace(TEXT, vocab_size=tokenizer.vocab_size)
    clip_jax.save(random_model(dataclasses.replace(VIT, text=text)), tmp_path / "model")
    tokenizer.save(tmp_path / "vocabulary")
    assert clip_jax.load(tmp_path / "model").tokenizer is None
    found = clip_jax.load(tmp_path / "model", tokenizer=tmp_path / "vocabulary").tokenize("a fox")
    np.testing.assert_array_equal(found, tokenizer("a fox"))


def test_a_vocabulary_of_another_size_is_refused(tmp_path, files, tokenizer):
    tokenizer.save(tmp_path / "vocabulary")
    message = f"a vocabulary of {tokenizer.vocab_size} ids for a model of 50; give the one"
    with pytest.raises(InputError, match=f"vocabulary: {message}"):
        clip_jax.load(files / "huggingface", tokenizer=tmp_path / "vocabulary")
    shutil.copytree(files / "huggingface", tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    with pytest.raises(InputError, match=f"model: {message}"):
        clip_jax.load(tmp_path / "model")


def test_names_and_hub_sources_are_fetched(files, monkeypatch):
    fetched = []

    def fetch(source):
        fetched.append(source)
        return files / "open_clip"

    monkeypatch.setattr(hub, "fetch", fetch)
    sources = [*clip_jax.available_models(), "hf://org/name", "hf://org/name@v1"]
    assert len(sources) == 11
    for source in sources[-3:]:
        assert clip_jax.load(source).config.embed_dim == 16
    assert fetched == [
        "hf://timm/vit_large_patch14_clip_336.openai",
        "hf://org/name",
        "hf://org/name@v1",
    ]


def test_the_dtype_is_that_of_the_computation_alone(files):
    model = clip_jax.load(files / "open_clip", dtype="bfloat16")
    assert model.compute.dtype == "bfloat16"
    assert {leaf.dtype.name for leaf in jax.tree.leaves(model.variables)} == {"float32"}
    assert clip_jax.load(files / "open_clip", activation="quick_gelu").compute.dtype == "float32"


WRONG = {
    "a dtype": ({"dtype": "float16"}, "dtype 'float16' is unknown; known are float32, bfloat16"),
    "an activation": ({"activation": "relu"}, "activation 'relu' is unknown; known are quick_gelu"),
    "another activation": (
        {"activation": "gelu"},
        "open_clip: a model with quick_gelu, not with gelu as asked for",
    ),
    "a resolution": (
        {"image_size": 30},
        "image_size 30 does not fit the model: .* does not divide",
    ),
    "no vocabulary": ({"tokenizer": "none.model"}, "none.model: No such file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_arguments_that_do_not_fit_are_refused_in_one_line(files, case):
    arguments, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        clip_jax.load(files / "open_clip", **arguments)
    assert "\n" not in str(caught.value)


def test_the_activation_of_a_workdir_cannot_be_changed(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setattr(workdir, "read_model", lambda path: (VIT, {"params": {}}))
    with pytest.raises(InputError, match="a model with quick_gelu, not with gelu as asked for"):
        clip_jax.load(tmp_path, activation="gelu")


@pytest.mark.parametrize("source", ["ViT-B-32", "none/model.pt", "a\0b", "x" * 5000, ""])
def test_a_source_that_is_nowhere(source):
    with pytest.raises(InputError, match="no such model; give a file, a directory, hf://org/name"):
        clip_jax.load(source)


def test_a_directory_without_a_model(tmp_path):
    with pytest.raises(InputError, match=r"no model; expected the workdir of a train\.py run, or"):
        clip_jax.load(tmp_path)
