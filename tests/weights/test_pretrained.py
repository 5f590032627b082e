"""Opening checkpoints in all their forms, from the files of their own libraries (golden)."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tensors import section, variables_from

from clip_jax import CLIPConfig, InputError, ResNetConfig, TextConfig, ViTConfig
from clip_jax.model import resize_of
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.weights.layout import write_tensors
from clip_jax.weights.openai import openai_layout
from clip_jax.weights.pretrained import at_image_size, open_pretrained

GOLDEN = Path(__file__).parents[1] / "golden"
HUGGINGFACE = dict(np.load(GOLDEN / "huggingface.npz"))
OPENAI = dict(np.load(GOLDEN / "openai.npz"))

TEXT = TextConfig(width=24, layers=2, heads=3, context_length=12, vocab_size=50)
VIT = CLIPConfig(16, ViTConfig(24, 8, width=16, layers=2, heads=2), TEXT)
RESNET = CLIPConfig(16, ResNetConfig(64, width=2, layers=(3, 1, 1, 1), heads=4), TEXT)

TEXT_CFG = {"context_length": 12, "vocab_size": 50, "width": 24, "heads": 3, "layers": 2}
VIT_CFG = {"image_size": 24, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
RESNET_CFG = {"image_size": 64, "layers": [3, 1, 1, 1], "width": 2, "head_width": 16}


def open_clip_config(vision=VIT_CFG, **model):
    base = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": vision, "text_cfg": TEXT_CFG}
    return {"model_cfg": base | model}


def load_golden(name):
    return section(dict(np.load(GOLDEN / f"{name}.npz")), "tensor")


TOWERS, RESNET_TENSORS = load_golden("towers"), load_golden("resnet")


def write(folder, files):
    """Files by name: tensors as safetensors, bytes as they are, all else as JSON."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif isinstance(content, dict) and all(isinstance(a, np.ndarray) for a in content.values()):
            save_file(content, folder / name)
        else:
            (folder / name).write_text(json.dumps(content))
    return folder


def huggingface_files(names=("config.json", "preprocessor_config.json")):
    files = {name: str(HUGGINGFACE[f"file/{name}"]).encode() for name in names}
    return files | {"model.safetensors": section(HUGGINGFACE, "tensor")}


def assert_equal_trees(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.fixture(scope="module")
def expected():
    """The golden ViT as the model's own variables."""
    return variables_from(TOWERS, VIT)


OPEN_CLIP_FORMS = {
    "a directory": ({"open_clip_model.safetensors": TOWERS}, None),
    "its file": ({"open_clip_model.safetensors": TOWERS}, "open_clip_model.safetensors"),
    "another name": ({"open_clip_pytorch_model.bin": TOWERS}, None),
    "the name of Hugging Face": ({"model.safetensors": TOWERS}, None),
    "a training checkpoint": (
        {"epoch_3.pt": {f"module.{name}": tensor for name, tensor in TOWERS.items()}},
        "epoch_3.pt",
    ),
    "with the mask": (
        {"open_clip_model.safetensors": {**TOWERS, "attn_mask": np.zeros((12, 12), np.float32)}},
        None,
    ),
}


@pytest.mark.parametrize("form", OPEN_CLIP_FORMS)
def test_open_clip_s_forms(tmp_path, expected, form):
    files, name = OPEN_CLIP_FORMS[form]
    write(tmp_path, {"open_clip_config.json": open_clip_config(), **files})
    opened = open_pretrained(tmp_path if name is None else tmp_path / name, None)
    assert opened.config == VIT
    assert_equal_trees(opened.read(), expected)


def test_a_custom_text_tower_s_names(tmp_path, expected):
    tensors = {
        name if name.startswith(("visual.", "logit_scale")) else f"text.{name}": tensor
        for name, tensor in TOWERS.items()
    }
    config = open_clip_config(custom_text=True)
    write(tmp_path, {"open_clip_config.json": config, "open_clip_model.safetensors": tensors})
    assert_equal_trees(open_pretrained(tmp_path, None).read(), expected)


def test_a_resnet_with_its_counters_and_running_statistics(tmp_path):
    tensors = RESNET_TENSORS
    assert any(name.endswith("num_batches_tracked") for name in tensors)
    config = open_clip_config(RESNET_CFG)
    write(tmp_path, {"open_clip_config.json": config, "open_clip_model.safetensors": tensors})
    opened = open_pretrained(tmp_path, None)
    assert opened.config == RESNET
    assert_equal_trees(opened.read(), variables_from(tensors, RESNET))


@pytest.mark.parametrize("file", ["script.pt", "state.pt"])
def test_openai_s_forms_tell_their_architecture_and_activation(tmp_path, file):
    """A TorchScript archive in half precision, and its state dict; nothing lies beside."""
    write(tmp_path, {file: OPENAI[f"file/{file}"].tobytes()})
    opened = open_pretrained(tmp_path / file, None)
    assert opened.config == CLIPConfig(
        embed_dim=16,
        image=ViTConfig(24, 8, width=64, layers=1, heads=1),
        text=TextConfig(width=64, layers=1, heads=1, context_length=12, vocab_size=50),
        activation="quick_gelu",
    )
    assert {tensor.dtype.name for tensor in opened.tensors.values()} == {"float16", "float32"}
    assert {leaf.dtype for leaf in jax.tree.leaves(opened.read())} == {np.dtype(np.float32)}


def test_openai_s_weights_under_open_clip_s_name(tmp_path):
    text = {"context_length": 12, "vocab_size": 50, "width": 64, "heads": 1, "layers": 1}
    vision = {"image_size": 24, "layers": 1, "width": 64, "patch_size": 8}
    config = open_clip_config(vision, text_cfg=text)
    weights = OPENAI["file/state.pt"].tobytes()
    files = {"open_clip_config.json": config, "open_clip_pytorch_model.bin": weights}
    opened = open_pretrained(write(tmp_path, files), None)
    bare = open_pretrained(write(tmp_path / "bare", {"a.pt": weights}) / "a.pt", None)
    assert_equal_trees(opened.read(), bare.read())
    config["model_cfg"]["quick_gelu"] = False
    write(tmp_path, {"open_clip_config.json": config})
    with pytest.raises(
        InputError, match="OpenAI's own weights, which go with quick_gelu, not with"
    ):
        open_pretrained(tmp_path, None)


def huggingface_variables(folder):
    write(folder, huggingface_files())
    return open_pretrained(folder, None).read()


def test_hugging_face_s_forms(tmp_path):
    whole = huggingface_variables(tmp_path / "whole")
    tensors = section(HUGGINGFACE, "tensor")
    config = {"config.json": huggingface_files()["config.json"]}
    positions = {
        f"{tower}.embeddings.position_ids": np.arange(count, dtype=np.int64)[None]
        for tower, count in (("text_model", 12), ("vision_model", 10))
    }
    half = len(tensors) // 2
    shards = {
        "model-1.safetensors": dict(list(tensors.items())[:half]),
        "model-2.safetensors": dict(list(tensors.items())[half:]),
    }
    weight_map = {name: shard for shard, part in shards.items() for name in part}
    forms = {
        "sharded": {**shards, "model.safetensors.index.json": {"weight_map": weight_map}},
        "older": {"pytorch_model.bin": tensors | positions},
    }
    for form, files in forms.items():
        write(tmp_path / form, config | files)
        assert_equal_trees(open_pretrained(tmp_path / form, None).read(), whole)
    assert_equal_trees(
        open_pretrained(tmp_path / "sharded" / "model.safetensors.index.json", None).read(), whole
    )
    assert_equal_trees(
        open_pretrained(tmp_path / "older" / "pytorch_model.bin", None).read(), whole
    )


def test_newer_transformers_keep_the_preprocessing_elsewhere(tmp_path):
    """CLIPProcessor.save_pretrained of transformers 5 writes no preprocessor_config.json."""
    older = open_pretrained(write(tmp_path / "older", huggingface_files()), None).config
    files = huggingface_files(("config.json", "processor_config.json"))
    folder = write(tmp_path / "newer", files)
    assert open_pretrained(folder, None).config == older
    assert older.preprocess.mean == (0.5, 0.4, 0.3)
    write(folder, {"preprocessor_config.json": {"do_resize": False}})  # the newer one counts
    assert open_pretrained(folder, None).config == older
    write(folder, {"processor_config.json": {"processor_class": "CLIPProcessor"}})
    with pytest.raises(InputError, match=r"preprocessor_config\.json: do_resize"):
        open_pretrained(folder, None)


def test_two_layouts_in_one_directory_each_have_their_config(tmp_path, expected):
    files = {**huggingface_files(), "open_clip_config.json": open_clip_config()}
    folder = write(tmp_path, {**files, "open_clip_model.safetensors": TOWERS})
    assert_equal_trees(open_pretrained(folder, None).read(), expected)
    by_name = open_pretrained(folder / "model.safetensors", None)
    assert by_name.config.activation == "gelu"
    (folder / "open_clip_model.safetensors").unlink()
    assert open_pretrained(folder, None).config == by_name.config


def test_an_openai_file_among_other_files_needs_no_config(tmp_path):
    folder = write(tmp_path, {**huggingface_files(), "a.pt": OPENAI["file/script.pt"].tobytes()})
    assert open_pretrained(folder / "a.pt", None).config.image.width == 64


# Weights without a config.


def bare_tensors(vocab_size=49408, width=64):
    """Of a ViT that could be one of open_clip's training runs."""
    config = CLIPConfig(
        embed_dim=8,
        image=ViTConfig(16, 8, width=width, layers=1, heads=1),
        text=TextConfig(width=64, layers=1, heads=1, context_length=4, vocab_size=vocab_size),
    )
    shapes = jax.eval_shape(lambda: init_variables(CLIP(config), jax.random.key(0)))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float16), shapes)
    return config, write_tensors(openai_layout(config), zeros)


def test_a_training_checkpoint_alone_needs_its_activation(tmp_path):
    config, tensors = bare_tensors()
    path = write(tmp_path, {"epoch_1.pt": tensors}) / "epoch_1.pt"
    with pytest.raises(InputError, match="do not say their activation; pass activation='quick_"):
        open_pretrained(path, None)
    assert open_pretrained(path, "quick_gelu").config == config
    assert open_pretrained(path, "gelu").config.activation == "gelu"


def test_what_shapes_do_not_tell_is_not_guessed(tmp_path):
    """Heads, and where texts of other vocabularies are read: silently wrong if guessed."""
    _, tensors = bare_tensors(vocab_size=1000)
    folder = write(tmp_path, {"a.pt": tensors, "b.pt": bare_tensors(width=80)[1]})
    with pytest.raises(InputError, match="vocabulary other than OpenAI's; put open_clip_config"):
        open_pretrained(folder / "a.pt", "gelu")
    with pytest.raises(InputError, match="how many heads a width of 80 has; put the open_clip_"):
        open_pretrained(folder / "b.pt", "gelu")


def test_openai_s_own_weights_are_not_run_with_another_activation(tmp_path):
    folder = write(tmp_path, {"a.pt": OPENAI["file/state.pt"].tobytes()})
    with pytest.raises(InputError, match="go with quick_gelu, not with gelu"):
        open_pretrained(folder / "a.pt", "gelu")


# What is refused.

TENSORS = section(HUGGINGFACE, "tensor")
GOOD = {"open_clip_config.json": open_clip_config(), "open_clip_model.safetensors": TOWERS}


def without(tensors, name):
    return {key: tensor for key, tensor in tensors.items() if key != name}


def renamed(**changes):
    return {"open_clip_config.json": open_clip_config(**changes)}


BROKEN = {
    "nothing": ({}, "no model; expected the workdir of a train.py run, or a directory with open_"),
    "no weights": (
        renamed(),
        "has a config but no weights; expected one of open_clip_model.safetensors",
    ),
    "no config": ({"open_clip_model.safetensors": TOWERS}, "no model; expected the workdir"),
    "not JSON": ({**GOOD, "open_clip_config.json": b"{'a': 1}"}, "config.json: not a JSON file"),
    "not text": ({**GOOD, "open_clip_config.json": b"\xff\xfe{"}, "not a JSON file"),
    "too deep": ({**GOOD, "open_clip_config.json": b'{"a":' * 100_000}, "not a JSON file"),
    "a list": ({**GOOD, "open_clip_config.json": []}, "expected a JSON object"),
    "cut off": (
        {**GOOD, "open_clip_model.safetensors": b"\x00\x01"},
        "neither safetensors nor a PyTorch archive, or cut off",
    ),
    "a missing tensor": (
        {**GOOD, "open_clip_model.safetensors": without(TOWERS, "visual.ln_pre.bias")},
        "missing: 'visual.ln_pre.bias'$",
    ),
    "an extra tensor": (
        {**GOOD, "open_clip_model.safetensors": {**TOWERS, "logit_bias": np.zeros(1)}},
        "unknown: 'logit_bias'$",
    ),
    "another context": (
        {**GOOD, **renamed(text_cfg=TEXT_CFG | {"context_length": 77})},
        r"misshapen: 'positional_embedding' is \[12, 24\] instead of \[77, 24\]$",
    ),
    "another vocabulary": (
        {**GOOD, **renamed(text_cfg=TEXT_CFG | {"vocab_size": 49408})},
        r"'token_embedding.weight' is \[50, 24\] instead of \[49408, 24\]$",
    ),
    "another resolution": (
        {**GOOD, **renamed(vision=VIT_CFG | {"image_size": 32})},
        r"'visual.positional_embedding' is \[10, 16\] instead of \[17, 16\]$",
    ),
    "fewer layers": (
        {**GOOD, **renamed(text_cfg=TEXT_CFG | {"layers": 1})},
        "unknown: 'transformer.resblocks.1.attn.in_proj_bias', .* and 9 more$",
    ),
    "another tower": ({**GOOD, **renamed(vision=RESNET_CFG)}, "missing: 'visual.attnpool.c_proj"),
    "a patch that does not fit": (
        {**GOOD, **renamed(vision=VIT_CFG | {"patch_size": 7})},
        "config.json: model.image.patch_size 7 does not divide",
    ),
    "too wide heads": (
        {**GOOD, **renamed(vision=VIT_CFG | {"head_width": 64})},
        "config.json: model.image.heads must be at least 1",
    ),
    "integers": (
        {
            **GOOD,
            "open_clip_model.safetensors": {
                name: tensor.astype(np.int8) for name, tensor in TOWERS.items()
            },
        },
        "not floats: 'logit_scale' is int8",
    ),
    "another kind of model": (
        {**huggingface_files(), "config.json": {"model_type": "siglip"}},
        "config.json: model_type 'siglip' is not supported, only 'clip'",
    ),
    "a text model": (
        {"config.json": {"model_type": "bert"}, "model.safetensors": {"bert.a": np.zeros(1)}},
        "model_type 'bert' is not supported",
    ),
    "an image tower alone": (
        {**renamed(), "model.safetensors": {"trunk.stem.weight": np.zeros(3)}},
        "missing: 'ln_final.bias'.*unknown: 'trunk.stem.weight'",
    ),
    "no tensor of a tower": (
        {**huggingface_files(), "model.safetensors": without(TENSORS, "text_projection.weight")},
        "missing: 'text_projection.weight'$",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_said_in_one_line(tmp_path, case):
    files, message = BROKEN[case]
    with pytest.raises(InputError, match=message) as caught:
        open_pretrained(write(tmp_path, files), None).read()
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_hugging_face_s_tensors_without_their_config(tmp_path):
    write(tmp_path, {"model.safetensors": TENSORS})
    with pytest.raises(InputError, match=r"Hugging Face's layout; put its config\.json beside"):
        open_pretrained(tmp_path / "model.safetensors", None)


def test_a_file_that_was_cut_off(tmp_path):
    write(tmp_path, GOOD)
    path = tmp_path / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged safetensors; fetch it again"):
        open_pretrained(tmp_path, None)


LIES = {
    "width": {"vision": VIT_CFG | {"width": 10**9, "head_width": 1}},
    "layers": {"vision": VIT_CFG | {"layers": 10**9}},
    "text layers": {"text_cfg": TEXT_CFG | {"layers": 10**18}},
    "stages": {"vision": RESNET_CFG | {"layers": [10**9, 1, 1, 1]}},
    "pixels": {"vision": VIT_CFG | {"image_size": 8 * 10**9}},
    "patches": {"vision": VIT_CFG | {"image_size": 2**19, "patch_size": 1}},
    "tokens": {"text_cfg": TEXT_CFG | {"vocab_size": 10**12}},
    "context": {"text_cfg": TEXT_CFG | {"context_length": 10**10}},
    "embedding": {"embed_dim": 10**15},
    "all that is let through": {
        "vision": VIT_CFG
        | {"width": 2**20, "head_width": 2**20, "layers": 1000, "image_size": 2**20}
        | {"patch_size": 2**20},
        "text_cfg": {name: 2**20 for name in TEXT_CFG} | {"layers": 1000},
        "embed_dim": 2**20,
    },
}


@pytest.mark.parametrize("lie", LIES)
def test_a_config_that_claims_too_much_fails_before_memory_is_taken(tmp_path, lie):
    write(tmp_path, {**GOOD, "open_clip_config.json": open_clip_config(**LIES[lie])})
    with pytest.raises(InputError, match=r"is more than any model has|misshapen"):
        open_pretrained(tmp_path, None).read()


def nodes(values, path=()):
    """The path of every value in nested objects and lists."""
    yield path
    items = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from nodes(value, (*path, key))
        else:
            yield (*path, key)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, 2, 3, 8, 16, 24, 49, 2**20, 10**9])
    | st.floats()
    | st.sampled_from(["", "gelu", "quick_gelu", "bilinear", "squash", "\ud800\n"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
ADDED = ["quick_gelu", "custom_text", "qk_norm", "text_config_dict", "vision_config_dict", "size"]
CONFIGS = {
    "open_clip": {"open_clip_config.json": open_clip_config()},
    "huggingface": {
        name: json.loads(str(HUGGINGFACE[f"file/{name}"]))
        for name in ("config.json", "preprocessor_config.json")
    },
}


def mutate(values, data):
    """Replace, remove or add one value somewhere."""
    values = json.loads(json.dumps(values))
    path = data.draw(st.sampled_from(sorted(nodes(values), key=str)))
    if not path:
        return data.draw(json_values)
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    how = data.draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    if how == "remove":
        del inner[path[-1]]
    elif how == "add" and isinstance(inner, dict):
        inner[data.draw(st.sampled_from(ADDED))] = data.draw(json_values)
    else:
        inner[path[-1]] = data.draw(json_values)
    return values


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A directory of each layout, for the many examples of a property."""
    base = tmp_path_factory.mktemp("pretrained")
    return {
        "open_clip": write(base / "open_clip", {"open_clip_model.safetensors": TOWERS}),
        "huggingface": write(base / "huggingface", {"model.safetensors": TENSORS}),
    }


def mutated(folders, data):
    """A directory in which one or two values of the configs are changed."""
    layout = data.draw(st.sampled_from(sorted(CONFIGS)))
    files = dict(CONFIGS[layout])
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from(sorted(files)))
        if isinstance(files[name], dict):
            files[name] = mutate(files[name], data)
    files = {name: json.dumps(values).encode() for name, values in files.items()}
    return write(folders[layout], files)


def opened_or_refused(folder, then):
    """The message if the checkpoint is refused, else nothing."""
    try:
        then(open_pretrained(folder, None))
    except InputError as error:
        return str(error)
    return ""


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_any_change_of_a_config_is_understood_or_refused_in_one_line(folders, data):
    def then(opened):
        resize_of(opened.config)
        assert len(opened.layout) < 40_000

    assert "\n" not in opened_or_refused(mutated(folders, data), then)


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_any_change_of_a_config_is_harmless_or_named_when_read(folders, data):
    def then(opened):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(opened.read()))

    assert "\n" not in opened_or_refused(mutated(folders, data), then)


# Another resolution.


@pytest.mark.parametrize(
    ("config", "tensors", "image_size", "tokens"),
    [(VIT, TOWERS, 40, 26), (VIT, TOWERS, 8, 2), (RESNET, RESNET_TENSORS, 96, 10)],
)
def test_only_position_embeddings_change_with_the_resolution(config, tensors, image_size, tokens):
    variables = variables_from(tensors, config)
    resized, changed = at_image_size(config, variables, image_size)
    assert resized.image.image_size == image_size
    assert resized.text == config.text

    def compare(path, before, after):
        if path[-1].key == "position_embedding" and path[1].key == "image":
            assert after.shape == (tokens, before.shape[1])
            np.testing.assert_array_equal(after[0], before[0])
        else:
            assert after is before

    jax.tree_util.tree_map_with_path(compare, variables, changed)


@pytest.mark.parametrize(
    ("config", "image_size", "message"),
    [
        (VIT, 30, "image_size 30 does not fit the model: .*patch_size 8 does not divide"),
        (VIT, 0, "image_size 0 does not fit the model: .* must be at least 1"),
        (VIT, -8, "must be at least 1"),
        (VIT, 8 * 10**6, "image_size 8000000 does not fit .* is more than any model has"),
        (RESNET, 80, "is not a multiple of 32"),
    ],
)
def test_a_resolution_that_does_not_fit(config, image_size, message):
    with pytest.raises(InputError, match=message):
        at_image_size(config, {"params": {}}, image_size)
