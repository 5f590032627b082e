"""Videos with captions or classes: in folders, tar shards and tables.

They lie as pictures do (folder.py, webdataset.py, csv_pairs.py), with a video file, or a folder of
frames in the order of their numbers, in the place of a picture.
"""

import os
import re
from pathlib import Path

from clip_jax.data.files import read_file
from clip_jax.data.samples import IMAGE_EXTENSIONS, Image, LabelledImages, Pair, Video, to_captions
from clip_jax.data.sources.csv_pairs import DIVIDER, CsvPairs
from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.sources.folder import by_class, class_name, walk_folders, with_captions
from clip_jax.data.sources.webdataset import find_shards, parse_captions
from clip_jax.data.strings import Strings
from clip_jax.data.tars.clips import TarClips
from clip_jax.data.video.files import VIDEO_EXTENSIONS, VideoFile, import_av
from clip_jax.data.video.frames import Frames, as_video
from clip_jax.errors import InputError

PICTURES = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)
FILES = tuple(f".{extension}" for extension in VIDEO_EXTENSIONS)


def open_video(path: str) -> Video:
    """A folder of frames, a video file, or a picture. Raises OSError."""
    if os.path.isdir(path):
        frames = [os.path.join(path, name) for name in frame_names(os.listdir(path))]
        return Frames(len(frames), lambda number: read_file(frames[number]))
    if path.lower().endswith(FILES):
        return VideoFile(read_file(path))
    return as_video(read_file(path))


def frame_names(names: list[str]) -> list[str]:
    """The pictures among files' names, by the numbers in them: "f2.jpg" before "f10.jpg"."""
    pictures = [n for n in names if n.lower().endswith(PICTURES) and not n.startswith(".")]
    return sorted(pictures, key=_by_number)


def _by_number(name: str) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts], name


class FolderVideos:
    """The videos below a folder: video files, and folders of frames.

    If any has a .txt beside it ("jump/7.mp4" or the folder "jump/7", "jump/7.txt"), these are the
    captions; otherwise the name of the first folder below, put into the templates.
    """

    def __init__(self, root: str, fields: FieldNames):
        videos, texts = find_videos(root)
        self._root, self._fields, self._written = root, fields, bool(texts)
        captioned, self.problems = with_captions(videos, texts, _text_of)
        if not captioned:
            raise InputError(
                f"{root}: none of its {len(videos)} videos (files such as .mp4, folders of frames) "
                "has a .txt beside it or lies in a folder named after its class"
            )
        self._paths = Strings.of(captioned)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Pair:
        path = os.path.join(self._root, self._paths[index])
        return Pair(path, open_video(path), self.captions(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one video."""
        path = self._paths[index]
        if self._written:
            return to_captions(read_file(os.path.join(self._root, _text_of(path))))
        return self._fields.fill(class_name(path))

    def digest(self) -> str:
        """A hash of the videos' paths under the folder."""
        return self._paths.digest()


class WebDatasetVideos:
    """Videos of tar shards (see TarClips) with a .txt that is the caption, or a .json."""

    def __init__(self, path: str, names: FieldNames | None = None):
        self._caption_field = (names and names.caption) or "caption"
        self._index = TarClips(find_shards(path), "caption", ("txt", "json"))
        self.problems = self._index.problems
        if len(self) == 0:
            raise InputError(
                f"{path}: no sample with a video (.mp4 or such, or pictures .000.jpg, .001.jpg, "
                f'...) and a caption (.txt, or .json with "{self._caption_field}")'
            )

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Pair:
        return Pair(self._index.describe(index), self._index.video(index), self.captions(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions alone, without reading the video."""
        extension = self._index.extension(index, "caption")
        return parse_captions(self._index.read(index, "caption"), extension, self._caption_field)

    def digest(self) -> str:
        """A hash of the samples' names, and of where they lie in their shards."""
        return self._index.digest()


class CsvVideos(CsvPairs):
    """CsvPairs with the path of a video, or of a folder of frames, in the place of a picture's."""

    def __init__(self, path: str, fields: FieldNames):
        super().__init__(path, fields)
        if any(self._path(index).lower().endswith(FILES) for index in range(len(self))):
            import_av()

    def __getitem__(self, index: int) -> Pair:
        path = self._path(index)
        return Pair(path, open_video(path), self.captions(index))

    def _path(self, index: int) -> str:
        return self._rows[index].partition(DIVIDER)[0]


class VideoFolders:
    """Videos by their paths under a folder."""

    def __init__(self, root: str, paths: Strings):
        self._root, self._paths = root, paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Image | Video:
        try:
            return open_video(os.path.join(self._root, self._paths[index]))
        except OSError:  # as of a picture: unreadable is what is empty
            return b""


def open_class_videos(root: str, fields: FieldNames) -> LabelledImages:
    """A classification set: one folder a class, in the order of their names."""
    videos, _ = find_videos(root)
    paths, labels, classnames = by_class(videos)
    if not paths:
        raise InputError(f"{root}: no folders of videos in it, one a class")
    return LabelledImages(
        name=Path(os.path.abspath(root)).name,
        images=VideoFolders(root, Strings.of(paths)),
        labels=labels,
        classnames=classnames,
        templates=list(fields.templates),
    )


def find_videos(root: str) -> tuple[list[str], set[str]]:
    """Paths of the videos and of the .txt under a folder, the videos sorted."""
    videos, texts = [], set()
    for within, names in walk_folders(root):
        files = [n for n in names if n.lower().endswith(FILES) and not n.startswith(".")]
        if files:  # pictures among them are previews
            videos += [(Path(within) / name).as_posix() for name in files]
        elif within != "." and frame_names(names):
            videos.append(within)
        texts |= {(Path(within) / name).as_posix() for name in names if name.endswith(".txt")}
    if any(path.lower().endswith(FILES) for path in videos):
        import_av()
    return sorted(videos), texts & {_text_of(path) for path in videos}


def _text_of(video: str) -> str:
    """The path of the .txt beside a video."""
    stem, extension = os.path.splitext(video)
    return f"{stem if extension.lower() in FILES else video}.txt"
