"""What the layouts of Hugging Face and open_clip both lack; such models stay in their workdir."""

from clip_jax.errors import InputError
from clip_jax.models.config import CLIPConfig, TextConfig


def text_tower(config: CLIPConfig) -> TextConfig:
    """The text tower of a model that one of the two layouts may hold.

    Raises InputError for what neither of them has.
    """
    text, video = config.text, config.video
    if video is not None and video.time != "none":  # frames that are averaged need nothing
        raise _only_in_workdir(f"a model of videos with time {video.time!r}")
    if not isinstance(text, TextConfig):
        raise _only_in_workdir("a model without a text transformer")
    if text.read == "none":
        raise _only_in_workdir("a model whose texts have no embeddings")
    if config.projection == "mlp":
        raise _only_in_workdir("a model with projection 'mlp'")
    return text


def _only_in_workdir(what: str) -> InputError:
    return InputError(
        f"{what} is kept in its workdir; the layouts of Hugging Face and open_clip cannot hold it"
    )
