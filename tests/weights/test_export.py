"""Writing checkpoints: the tensors and files that open_clip and transformers themselves have."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from tensors import section, variables_from

import clip_jax
from clip_jax import CLIPConfig, InputError, Model, ResNetConfig, TextConfig, ViTConfig
from clip_jax.data.text.bpe import BYTE_CHARACTERS, OPENAI_MERGES, BPETokenizer
from clip_jax.data.text.tokenizers import train_sentencepiece
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.config import (
    BagOfWordsConfig,
    CBOWConfig,
    DecoderConfig,
    PreprocessConfig,
    VideoConfig,
)

GOLDEN = Path(__file__).parents[1] / "golden"
TEXT = TextConfig(width=24, layers=2, heads=3, context_length=12, vocab_size=50)
VIT = CLIPConfig(16, ViTConfig(24, 8, width=16, layers=2, heads=2), TEXT)
RESNET = CLIPConfig(16, ResNetConfig(64, width=2, layers=(3, 1, 1, 1), heads=4), TEXT)

WEIGHTS = {"huggingface": "model.safetensors", "open_clip": "open_clip_model.safetensors"}
CONFIGS = {
    "huggingface": {"config.json", "preprocessor_config.json"},
    "open_clip": {"open_clip_config.json"},
}
VOCABULARIES = {
    "none": set(),
    "pairs": {"tokenizer.json", "vocab.json", "merges.txt"},
    "pieces": {"tokenizer.json", "tokenizer.model"},
}
BOTH = {"tokenizer_config.json", "special_tokens_map.json"}


def golden_tensors(name):
    tensors = section(dict(np.load(GOLDEN / f"{name}.npz")), "tensor")
    return {key: a for key, a in tensors.items() if not key.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def vit():
    return Model(VIT, **variables_from(golden_tensors("towers"), VIT))


@pytest.fixture(scope="module")
def resnet():
    return Model(RESNET, **variables_from(golden_tensors("resnet"), RESNET))


@pytest.fixture(scope="module")
def tokenizers():
    captions = ["a red circle above a blue square", "the quick brown fox"]
    return {
        "none": None,
        "pairs": BPETokenizer([("a", "n"), ("t", "h"), ("th", "e</w>")], 12),
        "pieces": train_sentencepiece(captions, 50, 12),
    }


def random_model(tokenizer):
    """A model for a vocabulary, which nothing had to be compiled for."""
    text = dataclasses.replace(TEXT, vocab_size=tokenizer.vocab_size)
    config = dataclasses.replace(VIT, text=text)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(partial(init_variables, CLIP(config)), jax.random.key(0))
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes)
    return Model(config, tokenizer=tokenizer, **variables)


@pytest.fixture(scope="module")
def models(vit, tokenizers):
    """A model for each vocabulary."""
    given = {name: random_model(t) for name, t in tokenizers.items() if t is not None}
    return {"none": vit, **given}


def names(folder):
    return {path.name for path in folder.iterdir()}


def assert_tensors(path, expected):
    written = load_file(path)
    assert written.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(written[name], tensor, err_msg=name, strict=True)


def test_open_clip_gets_back_its_tensors(tmp_path, vit, resnet):
    for name, model in {"towers": vit, "resnet": resnet}.items():
        clip_jax.save(model, tmp_path / name, layout="open_clip")
        assert_tensors(tmp_path / name / WEIGHTS["open_clip"], golden_tensors(name))


def test_a_bias_of_the_logits_goes_out_and_in(tmp_path):
    config = dataclasses.replace(VIT, initial_logit_bias=-10.0)
    clip_jax.save(clip_jax.create(config), tmp_path, layout="open_clip")
    assert load_file(tmp_path / WEIGHTS["open_clip"])["logit_bias"] == -10
    again = clip_jax.load(tmp_path)
    assert again.config.initial_logit_bias == again.params["logit_bias"] == -10


def test_the_weights_are_marked_as_transformers_wants_them(tmp_path, vit):
    """Without {"format": "pt"}, transformers refuses to open a safetensors file."""
    for layout, file in WEIGHTS.items():
        clip_jax.save(vit, tmp_path / layout, layout=layout)
        with safe_open(tmp_path / layout / file, framework="numpy") as opened:
            assert opened.metadata() == {"format": "pt"}


@pytest.mark.parametrize("layout", WEIGHTS)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_the_files_are_those_of_the_layout(tmp_path, models, layout, vocabulary):
    model = models[vocabulary]
    folder = tmp_path / "new" / "directory"
    clip_jax.save(model, folder, layout=layout)
    expected = {WEIGHTS[layout], *CONFIGS[layout], *VOCABULARIES[vocabulary]}
    assert names(folder) == expected | (BOTH if VOCABULARIES[vocabulary] else set())
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    clip_jax.save(model, str(folder), layout=layout)  # again, in its place
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def text_cfg(model, folder):
    clip_jax.save(model, folder, layout="open_clip")
    return json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]


def test_open_clip_is_told_to_read_a_vocabulary_unless_it_is_openai_s(tmp_path, models):
    for name in ("pairs", "pieces"):
        assert text_cfg(models[name], tmp_path / name)["hf_tokenizer_name"]
    assert "hf_tokenizer_name" not in text_cfg(models["none"], tmp_path / "none")
    letters = list(BYTE_CHARACTERS.values())
    pairs = [(a, b) for a in letters for b in letters][:OPENAI_MERGES]
    model = random_model(BPETokenizer(pairs, 12))
    assert text_cfg(model, tmp_path / "as large")["hf_tokenizer_name"]


def test_openai_s_own_vocabulary_is_known(tmp_path):
    merges = Path("../shared/data/bpe/bpe_simple_vocab_16e6.txt.gz")
    if not merges.exists():
        pytest.skip(f"needs {merges}")
    model = random_model(BPETokenizer.from_merges(merges, 12))
    assert "hf_tokenizer_name" not in text_cfg(model, tmp_path / "openai")


def test_hugging_face_s_ids_are_those_of_the_vocabulary(tmp_path, models):
    for name in ("pairs", "pieces"):
        folder = tmp_path / name
        clip_jax.save(models[name], folder)
        config = json.loads((folder / "config.json").read_text())["text_config"]
        added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
        ids = {token["content"]: token["id"] for token in added}
        special = json.loads((folder / "special_tokens_map.json").read_text())
        for kind in ("bos", "eos", "pad"):
            assert config[f"{kind}_token_id"] == ids[special[f"{kind}_token"]]


UNFIT = {
    "an unknown layout": ("timm", {}, "layout 'timm' is unknown; known are 'huggingface' and"),
    "a ResNet": ("huggingface", {"image": RESNET.image}, "has no ResNets; use layout='open_clip'"),
    "padding": (
        "huggingface",
        {"preprocess": PreprocessConfig(resize_mode="longest")},
        "cannot say resize_mode 'longest'",
    ),
    "a bias": ("huggingface", {"initial_logit_bias": -10.0}, "has no logit_bias; use layout="),
    "CoCa": ("huggingface", {"decoder": DecoderConfig(1)}, "has no CoCa; use layout='open_clip'"),
    "a class token": (
        "huggingface",
        {"text": dataclasses.replace(TEXT, read="class")},
        "has no CoCa; use layout='open_clip'",
    ),
    "a pooling": (
        "huggingface",
        {"image": dataclasses.replace(VIT.image, pool_queries=4)},
        "has no pool_queries; use layout='open_clip'",
    ),
    "a decoder of other width": (
        "open_clip",
        {"decoder": DecoderConfig(1)},
        "in open_clip, a decoder of width 24 reads tokens as wide as itself, not 16; such",
    ),
    "a decoder beside a ResNet": (
        "open_clip",
        {"decoder": DecoderConfig(1), "image": RESNET.image},
        "in open_clip, a decoder reads the tokens of a ViT, not of a ResNet",
    ),
    "a filter": (
        "open_clip",
        {"preprocess": PreprocessConfig(interpolation="lanczos")},
        "open_clip cannot resize by 'lanczos'",
    ),
}


NOWHERE = {
    "a bag of words": ({"text": BagOfWordsConfig(12, 50)}, "a model without a text transformer"),
    "words on average": ({"text": CBOWConfig(24, 12, 50)}, "a model without a text transformer"),
    "captions alone": (
        {"text": dataclasses.replace(TEXT, read="none"), "decoder": DecoderConfig(1)},
        "a model whose texts have no embeddings",
    ),
    "hidden layers": ({"projection": "mlp"}, "a model with projection 'mlp'"),
    "a model of time": (
        {"video": VideoConfig(4, "after", layers=1, heads=2)},
        "a model of videos with time 'after'",
    ),
}
UNFIT |= {
    f"{case} ({layout})": (layout, changes, f"{message} is kept in its workdir; the layouts")
    for case, (changes, message) in NOWHERE.items()
    for layout in WEIGHTS
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_a_layout_cannot_express_is_refused_before_anything_is_written(tmp_path, vit, case):
    layout, changes, message = UNFIT[case]
    model = dataclasses.replace(vit, config=dataclasses.replace(VIT, **changes))
    with pytest.raises(InputError, match=message):
        clip_jax.save(model, tmp_path / "out", layout=layout)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("left", "layout"),
    [
        ("checkpoints", "huggingface"),
        ("open_clip_config.json", "huggingface"),
        ("open_clip_pytorch_model.bin", "open_clip"),
        ("config.json", "open_clip"),
        ("processor_config.json", "huggingface"),
        ("model.safetensors.index.json", "huggingface"),
        ("tokenizer.model", "huggingface"),
        ("vocab.json", "open_clip"),
    ],
)
def test_a_directory_with_parts_of_another_model_is_refused(tmp_path, vit, left, layout):
    """Loaded again, they would be taken for this model's."""
    (tmp_path / left).write_text("")
    with pytest.raises(InputError, match=f"holds {left} of another model; save to a directory"):
        clip_jax.save(vit, tmp_path, layout=layout)
    assert names(tmp_path) == {left}


def test_a_vocabulary_of_another_kind_is_not_left_beside(tmp_path, models):
    for first, second in (("pairs", "pieces"), ("pieces", "pairs"), ("pairs", "none")):
        folder = tmp_path / f"{first} {second}"
        clip_jax.save(models[first], folder)
        with pytest.raises(InputError, match="of another model"):
            clip_jax.save(models[second], folder)


def test_a_vocabulary_that_is_not_the_model_s_is_refused(tmp_path, vit, tokenizers):
    model = dataclasses.replace(vit, tokenizer=tokenizers["pairs"])
    with pytest.raises(InputError, match="tokenizer has 517 ids and its text tower 50"):
        clip_jax.save(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_files_in_the_directory_do_not_matter(tmp_path, vit):
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / ".git").mkdir()
    clip_jax.save(vit, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_directory_that_cannot_be_made(tmp_path, vit):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(InputError, match=f"^{path}: (File exists|Not a directory)$"):
            clip_jax.save(vit, path)
