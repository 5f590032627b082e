"""What the two scripts share: parsing into dataclasses, and one line for whatever goes wrong."""

import contextlib
import io
import re
import runpy
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from clip_jax.errors import InputError

Config = TypeVar("Config")


def main(name: str, run: Callable[[Sequence[str]], None]) -> int:
    """Run a script with its arguments; bad input becomes one line and exit code 2.

    One of several processes that fails does not return, but leaves the others (see `leave`).
    """
    # Pillow says so at every such picture; it is converted as the reference preprocessing does.
    warnings.filterwarnings("ignore", message="Palette images with Transparency")
    try:
        run(sys.argv[1:])
        return 0
    except InputError as error:
        print(f"{name}: {printable(str(error))}", file=sys.stderr)
        code = 2
    except OSError as error:  # a full disk, a path that is too long or may not be read
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"{name}: {printable(what)}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        code = 130
    except Exception:
        traceback.print_exc()
        code = 1
    if "jax" in sys.modules:  # which takes a second to import, and so has not met any other process
        from clip_jax.parallel.processes import leave

        leave(code)
    return code


def printable(text: str) -> str:
    """A message that may hold names from data: one line, and nothing that a terminal obeys."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def parse(kind: Any, arguments: Sequence[str], prog: str, default: Any = None) -> Any:
    """Arguments -> an instance of the dataclass (or union of dataclasses) `kind`.

    Every field is an option under its dotted name. `default` gives the values that are not named,
    and which member of a union has the fields.
    """
    options = {} if default is None else {"default": default}
    options["config"] = (tyro.conf.AvoidSubcommands,)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(kind, args=list(arguments), prog=prog, **options)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise InputError(_one_line(complaint.getvalue(), prog)) from None


def _one_line(box: str, prog: str) -> str:
    """The message in tyro's framed error, with the options it suggests."""
    lines = [line.strip("│ ").strip() for line in box.splitlines()]
    sections = " ".join(line for line in lines if line and line[0] not in "╭╰")
    message, _, rest = re.sub("─+", "─", sections).partition("─")
    suggested = re.findall(r"--[\w.-]+", rest.partition("Perhaps you meant")[2])
    suggested = [option for option in dict.fromkeys(suggested) if option != "--help"]
    hint = f"; did you mean {' or '.join(suggested[:3])}?" if suggested else ""
    message = message.strip() or "the arguments do not fit"
    return f"{message[0].lower()}{message[1:]}{hint} (see {prog} --help)"


def load_recipe(path: str, kind: type[Config]) -> Config:
    """The object named `config` that a recipe file builds."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such recipe; the ones that come with this project: configs/")
    try:
        config = runpy.run_path(path).get("config")
    except Exception as error:
        raise InputError(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, kind):
        raise InputError(f"{path}: a recipe must set config = {kind.__name__}(...)")
    return config
