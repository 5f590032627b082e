"""Look at data: python -m clip_jax.data inspect SPEC"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from clip_jax.commandline import main, parse

PROGRAM = "python -m clip_jax.data"


@dataclass(frozen=True)
class Inspect:
    """What is in a data set."""

    spec: tyro.conf.Positional[str]
    """The data, as for --data.train."""


Commands = Annotated[Inspect, tyro.conf.subcommand("inspect")]


def run(arguments: Sequence[str]) -> None:
    command = parse(Commands, arguments, PROGRAM)
    from clip_jax.data.sources import open_pairs

    print(f"{len(open_pairs(command.spec, image_size=224))} pairs")


if __name__ == "__main__":
    sys.exit(main(PROGRAM, run))
