"""One program at a time writes in a folder: two would undo what the other did."""

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
def alone_in(folder: Path, advice: str) -> Iterator[None]:
    """Hold a folder, or raise InputError, with the advice, on all processes if another run does.

    The system gives it back however the process ends.
    """
    with ExitStack() as stack:
        with same_errors():
            if jax.process_index() == 0:
                _hold(folder, advice, stack)
        yield


def _hold(folder: Path, advice: str, stack: ExitStack) -> None:
    """Lock a file of the folder, which says who did, until the stack is closed."""
    file = stack.enter_context((folder / "lock").open("a+"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise InputError(
            f"{folder}: another run is at work there ({file.read().strip()}); {advice}"
        ) from None
    except OSError:  # a file system without locks, such as some mounted buckets
        return
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()
