"""What is typed at a command."""

from pathlib import Path

from fuzz.target import Parser, target

from clip_jax.errors import InputError


@target(share=0.01)
def arguments(folder: Path) -> Parser:
    """Options of train.py, one a line."""
    from clip_jax.commandline import parse
    from clip_jax.models.presets import PRESETS
    from clip_jax.training.config import TrainConfig, check_train_config
    from clip_jax.training.optimizer import OptimizerConfig

    optimizer = OptimizerConfig(warmup_steps=10)
    default = TrainConfig(model=PRESETS["ViT-tiny"], optimizer=optimizer)

    def run(content: bytes) -> None:
        given = [line.decode(errors="surrogateescape") for line in content.split(b"\n")]
        # A picture of the help is as good as a value.
        if not {"-h", "--help"} & set(given):
            check_train_config(parse(TrainConfig, given, "train.py", default))

    return [
        b"--steps\n200\n--optimizer.learning-rate\n1e-3\n--mesh.data\n2",
        b"--data.train\nwds:a\ncsv:b\n--data.weights\n1\n2\n--model.initial-logit-bias\nNone",
        b"--model.image.patch-size=4\n--optimizer.rates\n.*\n0.5\n--compute.unroll\nFalse",
    ], run


@target()
def spec(folder: Path) -> Parser:
    """A SPEC with a pattern of files, and the name of a model on the hub."""
    from clip_jax.data.files import find_files
    from clip_jax.data.sources.spec import parse_spec
    from clip_jax.hub import parse_name

    def run(content: bytes) -> None:
        text = content.decode(errors="surrogateescape").replace("\0", "")
        if text.startswith("hf://"):
            parse_name(text)
            return
        try:
            kind, path = parse_spec(text)
            if kind == "wds" and "://" not in path:
                find_files(path, (".tar",))
        except OSError as error:  # the scripts make one line of it
            raise InputError(str(error)) from error

    names = ("shards/{00..31}.tar", "a{b,{c,d}}{1..3}.tar", "/none/*.tar", "none")
    return [f"wds:{name}".encode() for name in names] + [b"hf://org/name@main", b"scenes:"], run
