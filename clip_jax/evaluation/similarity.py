"""A picture of the image-text similarity matrix: what the model thinks fits what."""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from clip_jax.data.images import load_image
from clip_jax.data.prompts import class_prompts
from clip_jax.data.samples import CaptionedImages, Image, LabelledImages, Video
from clip_jax.data.video.frames import still_of
from clip_jax.evaluation.embed import embed_readable, embed_texts
from clip_jax.model import Model

EXAMPLES = 10


@dataclass(frozen=True)
class Example:
    """An image and the text that belongs to it."""

    image: Image | Video
    text: str


def class_examples(data: LabelledImages) -> list[Example]:
    """The first image of each of the first classes that occur."""
    labels = data.labels.argmax(axis=1) if data.multilabel else data.labels
    classes, first = np.unique(labels, return_index=True)
    prompts = class_prompts(data.classnames, data.templates)
    return [
        Example(data.images[int(index)], prompts[label][0])
        for label, index in list(zip(classes, first, strict=True))[:EXAMPLES]
    ]


def caption_examples(data: CaptionedImages) -> list[Example]:
    """The first images with their first caption."""
    count = min(EXAMPLES, len(data.images))
    return [Example(data.images[index], data.captions[index][0]) for index in range(count)]


def draw_similarity(model: Model, examples: list[Example], path: Path) -> None:
    """Write a PNG: images across, texts down, their cosine similarity in each cell.

    All processes take part; the first one draws. Unreadable images are left out.
    """
    images = [example.image for example in examples]
    image, readable = embed_readable(model, images, len(images))
    examples = [examples[number] for number in readable]
    count, texts = len(examples), [example.text for example in examples]
    cosines = embed_texts(model, texts) @ image.T
    if jax.process_index() != 0:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(0.8 * count + 4, 0.8 * count + 1.5))
    axes.imshow(cosines, cmap="viridis")
    for row, column in np.ndindex(count, count):
        shade = "black" if cosines[row, column] > np.percentile(cosines, 70) else "white"
        axes.text(column, row, f"{cosines[row, column]:.2f}", ha="center", va="center", color=shade)
    axes.set_yticks(range(count), [shorten(text) for text in texts])
    axes.set_xticks([])
    for column, example in enumerate(examples):
        picture = model.resize(load_image(still_of(example.image)))
        axes.imshow(picture, extent=(column - 0.45, column + 0.45, -0.6, -1.5))
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -1.6))
    axes.set_title("cosine similarity of images and texts")
    axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    pyplot.close(figure)


def shorten(text: str, length: int = 44) -> str:
    """Cut a long text for a label; dollar signs would start a formula."""
    text = text.replace("$", r"\$")
    return text if len(text) <= length else text[: length - 1] + "…"
