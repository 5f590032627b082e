"""Train CLIP: python train.py configs/NAME.py [--group.field value ...]

The recipe says what is trained; every field of it can be overridden. A run that is already in the
workdir is continued. `python train.py configs/NAME.py --help` lists all fields.
"""

import sys
from collections.abc import Sequence

from clip_jax.commandline import load_recipe, main, parse
from clip_jax.errors import InputError


def run(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0].startswith("-"):
        if arguments and arguments[0] in ("-h", "--help"):
            print(__doc__.strip())
            return
        raise InputError("give a recipe: python train.py configs/NAME.py [--field value ...]")
    from clip_jax.training.config import TrainConfig

    recipe, *overrides = arguments
    default = load_recipe(recipe, TrainConfig)
    config = parse(TrainConfig, overrides, f"train.py {recipe}", default)

    if config.dry_run is not None:
        from clip_jax.training.dry_run import dry_run

        sys.exit(None if dry_run(config) else 1)

    from clip_jax.cache import keep_compiled
    from clip_jax.parallel.processes import start_processes

    start_processes(config.processes)
    keep_compiled()

    from clip_jax.training.loop import train  # slow to import: --help and bad options are not

    train(config)


if __name__ == "__main__":
    sys.exit(main("train.py", run))
