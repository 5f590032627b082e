"""Search in one's own pictures: from what is asked to an index that is up to date, and answers."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from clip_jax.data.files import read_file
from clip_jax.data.images import UNREADABLE, load_image
from clip_jax.data.sources.folder import find_pictures
from clip_jax.errors import InputError
from clip_jax.evaluation.classifier_cache import weights_digest
from clip_jax.evaluation.embed import embed_some, embed_texts
from clip_jax.evaluation.pictures.index import About, PictureIndex
from clip_jax.evaluation.pictures.page import Hit, Ranking, render_page
from clip_jax.evaluation.pictures.rank import largest, nearness, similar_groups, similarities
from clip_jax.evaluation.pictures.show import ROWS, plain, printable, report, report_unreadable
from clip_jax.evaluation.results import write_file
from clip_jax.evaluation.run import progress
from clip_jax.lock import alone_in
from clip_jax.model import Model, check_embeds_text

BATCH = 128


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is asked of an index."""

    texts: tuple[str, ...] = ()
    """Each ranks the pictures."""
    images: tuple[str, ...] = ()
    """Files of pictures, each likewise."""
    unique: bool = False
    """Rank by how little a picture is like its nearest others."""
    duplicates: float | None = None
    """Group pictures that are at least this similar."""
    top: int = 20
    """Pictures of a ranking."""

    def check(self) -> None:
        """Raise InputError for what cannot be asked."""
        if self.top < 1:
            raise InputError(f"top must be at least 1, got {self.top}")
        if self.duplicates is not None and not 0 < self.duplicates < 1:
            raise InputError(
                f"duplicates must be a cosine between 0 and 1, such as 0.95, got {self.duplicates}"
            )
        if "" in self.texts:
            raise InputError("--text needs a text")
        for file in self.images:
            try:
                load_image(read_file(file)).load()
            except UNREADABLE as error:
                raise InputError(f"{file}: not a picture that can be read ({error})") from None

    @property
    def none(self) -> bool:
        """Whether nothing is asked."""
        return not (self.texts or self.images or self.unique) and self.duplicates is None


@dataclass(frozen=True)
class Answers:
    """What was found."""

    rankings: list[Ranking]
    duplicates: list[Ranking]
    """Groups of pictures, the largest first; scores are similarities to a group's first one."""


def run_search(
    load: Callable[[str], Model],
    name: str,
    folder: str | None,
    place: Path,
    questions: Questions,
    output: Path | None,
    page: Path | None,
) -> None:
    """Bring the index at a place up to date with a folder, if one is given, and ask it.

    Prints tables; writes the answers as JSON and as a page where these are named.
    """
    if jax.process_count() > 1:
        raise InputError("search runs in one process, on all of its devices")
    questions.check()
    if folder is None and questions.none:
        raise InputError("nothing is asked; give --text, --image, --unique or --duplicates")
    files = None if folder is None else find_pictures(folder)
    index = open_index(place, folder)
    model = load(name)
    if questions.texts:
        check_embeds_text(model.config)
    if files is None:
        index = check_model(index, place, folder, model)
    else:
        place.mkdir(parents=True, exist_ok=True)
        with alone_in(place, "wait for it, or name another --index"):
            index = check_model(open_index(place, folder), place, folder, model)
            update_index(index, files, model)
    report(f"{len(index)} pictures of {index.about.root}")
    report_unreadable(index.unreadable)
    answers = answer(index, model, questions)
    shown = [*answers.rankings, *answers.duplicates[: questions.top]]
    print_answers(answers, shown, index.about.root)
    if output is not None:
        write_file(output, json.dumps({"model": name, **asdict(answers)}, indent=1) + "\n")
    if page is not None:
        about = f"{len(index)} pictures of {printable(index.about.root)}, by {name}"
        write_file(page, render_page("Pictures", about, shown))
        report(f"{page}: the pictures")


def open_index(place: Path, folder: str | None) -> PictureIndex | None:
    """The index at a place, which must be of the folder if one is given; None if there is none."""
    if folder is not None and not (place / "index.json").exists():
        return None
    index = PictureIndex.open(place)
    if folder is not None and os.path.realpath(folder) != index.about.root:
        raise InputError(
            f"{place}: an index of {index.about.root}; name another --index for {folder}"
        )
    return index


def check_model(
    index: PictureIndex | None, place: Path, folder: str | None, model: Model
) -> PictureIndex:
    """The index, which must be of this model; a new one of the folder if there is none yet."""
    digest = weights_digest(model, model.variables).hex()
    if index is None:
        root = os.path.realpath(folder or "")
        return PictureIndex.create(place, About(root, digest, model.config.embed_dim))
    if index.about.model != digest:
        raise InputError(f"{place}: another model made this index; name another --index for this")
    return index


def update_index(index: PictureIndex, files: Sequence[str], model: Model) -> None:
    """Embed what is new or changed, with progress."""
    new = index.drop_stale(files)
    with progress("pictures", len(new)) as on_batch:
        index.add(new, lambda images: embed_some(model, images, min(BATCH, len(new)), on_batch))


def answer(index: PictureIndex, model: Model, questions: Questions) -> Answers:
    """Rank and group, as far as asked."""
    if questions.none:
        return Answers([], [])
    if len(index) == 0:
        raise InputError(f"{index.folder}: none of the pictures is readable")
    rankings = rank_queries(index, model, questions)
    if questions.unique:
        rankings.append(rank_unique(index, questions.top))
    groups = [] if questions.duplicates is None else group_similar(index, questions.duplicates)
    return Answers(rankings, groups)


def rank_queries(index: PictureIndex, model: Model, questions: Questions) -> list[Ranking]:
    """The pictures that are most like each text and each picture: cosines."""
    asked, rows = [], np.empty((0, index.about.width), np.float32)
    if questions.texts:
        asked += [f"text: {text}" for text in questions.texts]
        rows = np.concatenate([rows, embed_texts(model, questions.texts)])
    if questions.images:
        asked += [f"like {file}" for file in questions.images]
        images = [read_file(file) for file in questions.images]
        found, numbers = embed_some(model, images, len(images))
        for number in np.setdiff1d(np.arange(len(images)), numbers):
            raise InputError(f"{questions.images[number]}: too long and thin to be embedded")
        rows = np.concatenate([rows, found])
    rankings = []
    for query, row in zip(asked, rows, strict=True):
        scores = similarities(index.rows, row)
        rankings.append(make_ranking(index, query, largest(scores, questions.top), scores))
    return rankings


def rank_unique(index: PictureIndex, top: int) -> Ranking:
    """The pictures that are least like their nearest others: mean cosines."""
    if len(index) < 2:
        raise InputError(f"{index.folder}: --unique takes at least two pictures")
    with progress("comparing", len(index)) as on_rows:
        scores = nearness(index.rows, on_rows)
    query = "unique: least like their nearest others"
    return make_ranking(index, query, largest(-scores, top), scores)


def group_similar(index: PictureIndex, threshold: float) -> list[Ranking]:
    """Near-duplicates."""
    with progress("comparing", len(index)) as on_rows:
        groups = similar_groups(index.rows, threshold, on_rows)
    rankings = []
    for number, group in enumerate(groups, 1):
        group = np.array(sorted(group, key=lambda row: index.file(int(row))))
        rows = index.rows[group].astype(np.float32)
        query = f"near-duplicates {number} of {len(groups)}: {len(group)} pictures"
        hits = zip(group, rows @ rows[0], strict=True)
        rankings.append(Ranking(query, [Hit(index.file(int(row)), float(s)) for row, s in hits]))
    return rankings


def make_ranking(index: PictureIndex, query: str, rows: np.ndarray, scores: np.ndarray) -> Ranking:
    """A ranking of these rows; scores: of all rows."""
    return Ranking(query, [Hit(index.file(int(row)), float(scores[row])) for row in rows])


def print_answers(answers: Answers, shown: Sequence[Ranking], root: str) -> None:
    """A table for each ranking, with paths below the root; how many more groups there are."""
    for ranking in shown:
        table = Table("picture", "similarity", title=plain(ranking.query), title_justify="left")
        for hit in ranking.hits[:ROWS]:
            table.add_row(plain(os.path.relpath(hit.file, root)), f"{hit.score:.3f}")
        Console().print(table)
        if len(ranking.hits) > ROWS:
            report(f"and {len(ranking.hits) - ROWS} more")
    left = len(answers.rankings) + len(answers.duplicates) - len(shown)
    if left:
        report(f"and {left} more groups of near-duplicates, which --output writes")
