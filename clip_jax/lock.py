"""One run at a time in a workdir: two would clear away each other's checkpoints."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax

from clip_jax.errors import InputError
from clip_jax.parallel.processes import same_errors


@contextmanager
def alone_in(workdir: Path) -> Iterator[None]:
    """Hold the workdir, or raise InputError on all processes if another run holds it.

    The system gives it back however the process ends.
    """
    with ExitStack() as stack:
        with same_errors():
            if jax.process_index() == 0:
                _hold(workdir, stack)
        yield


def _hold(workdir: Path, stack: ExitStack) -> None:
    """Lock a file of the workdir, which says who did, until the stack is closed."""
    file = stack.enter_context((workdir / "lock").open("a+"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise InputError(
            f"{workdir}: another run is at work there ({file.read().strip()}); stop it first, or "
            "choose another --workdir"
        ) from None
    except OSError:  # a file system without locks, such as some mounted buckets
        return
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()
