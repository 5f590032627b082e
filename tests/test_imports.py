"""The core runs where nothing but jax, flax, optax and numpy is installed, and imports quickly."""

import subprocess
import sys

import pytest

BARE = """
import importlib.abc, sys

HEAVY = {"PIL", "braceexpand", "ftfy", "grain", "huggingface_hub", "matplotlib", "orbax", "rich",
         "safetensors", "sentencepiece", "simplejpeg", "tensorboardX", "tokenizers", "tyro"}

# A finder of this program's own: what flax imports of these if it can is not our doing.
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ModuleNotFoundError(name)

import flax.linen, jax, optax
sys.meta_path.insert(0, Missing())
from clip_jax.models.clip import CLIP
from clip_jax.models.presets import PRESETS
from clip_jax.parallel.mesh import MeshConfig, make_mesh
from clip_jax.training.optimizer import OptimizerConfig, learning_rate_schedule, make_optimizer
from clip_jax.training.state import abstract_state
from clip_jax.training.step import make_train_step

model, mesh = CLIP(PRESETS["ViT-tiny"]), make_mesh(MeshConfig())
optimizer = make_optimizer(OptimizerConfig(), 3000)
step = make_train_step(model, optimizer, learning_rate_schedule(OptimizerConfig(), 3000), mesh)
batch = {
    "images": jax.ShapeDtypeStruct((8, 16, 16, 3), "uint8"),
    "tokens": jax.ShapeDtypeStruct((8, 16), "int32"),
}
step.lower(abstract_state(model, optimizer, mesh), batch)
"""


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_train_step_needs_no_heavy_package():
    run(BARE)


def test_importing_the_package_loads_no_heavy_module():
    run("import sys, clip_jax; clip_jax.available_models(); assert 'flax' not in sys.modules")


@pytest.mark.parametrize("name", ["load", "create", "Model", "CLIPConfig", "available_models"])
def test_public_names_are_there(name):
    import clip_jax

    assert name in dir(clip_jax)
    assert getattr(clip_jax, name).__doc__


def test_unknown_names_are_attribute_errors():
    import clip_jax

    assert not hasattr(clip_jax, "no_such_name")
