"""Every test runs on 8 simulated CPU devices; tests that need fewer take the first ones.

What is compiled is kept until the session ends, for other tests, workers and scripts to use; the
tests compute little and compile much, so the compiler optimises little.
"""

import os
import shutil
import tempfile

import jax
import pytest

QUICK = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
if jax.__version_info__ < (0, 11):
    QUICK += " --xla_cpu_use_fusion_emitters=false"  # later ones have no older way to fuse
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

CACHE, MIN_SECONDS = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


def pytest_configure(config):
    if CACHE not in os.environ:  # workers and scripts inherit it
        folder = tempfile.mkdtemp(prefix="clip_jax-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ |= {CACHE: folder, MIN_SECONDS: "0.5"}
        jax.config.update(CACHE.lower(), folder)
        jax.config.update(MIN_SECONDS.lower(), 0.5)


@pytest.fixture(scope="module", autouse=True)
def forget_compiled():
    """Lets go of programs in memory, of which a worker would gather gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture
def tpu(monkeypatch):
    """Lets a test compile for TPUs; skips it where their compiler is not installed."""
    from clip_jax.parallel.topology import ENVIRONMENT

    pytest.importorskip("libtpu", reason="the TPU compiler is not installed")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
