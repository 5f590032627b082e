"""Where this user's caches lie, and what JAX keeps there."""

import functools
import os
import tempfile
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """The folder of this user's caches; it need not be there.

    A user without a home, as containers may have, gets one that goes with the process.
    """
    try:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        root = _temporary_folder().name
    return Path(root) / "clip_jax"


@functools.cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="clip_jax-")


def keep_compiled() -> None:
    """Have JAX keep the programs that it compiles for GPUs and TPUs, for the next start.

    Call it once the processes have met. JAX's settings come first: JAX_COMPILATION_CACHE_DIR names
    another folder, and JAX_ENABLE_COMPILATION_CACHE=false keeps nothing. By itself a run of several
    processes keeps nothing, for they would need a folder that all share, and one on CPUs, where
    XLA reports errors when it loads what it kept (github.com/jax-ml/jax/issues/38445).
    """
    import jax  # processes that only read data do without

    config: Any = jax.config
    named = config.jax_compilation_cache_dir is not None
    if not named and jax.process_count() == 1 and jax.devices()[0].platform != "cpu":
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
