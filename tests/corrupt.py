"""Ten ways in which a sample cannot be used, each with the reason that is counted for it."""

from shards import encode, smooth


def gigantic(content, place):
    """A picture whose header, at this place, says 65,000 x 65,000."""
    return content[:place] + b"\xfd\xe8\xfd\xe8" + content[place + 4 :]


JPEG, PNG = encode(smooth((40, 30)), "jpeg"), encode(smooth((40, 30)))
WRONG = [
    ("broken_image", b"<html>404 Not Found</html>"),
    ("broken_image", JPEG[: len(JPEG) // 2]),
    ("broken_image", JPEG[:20]),
    ("broken_image", PNG[: len(PNG) // 2]),
    ("broken_image", PNG.replace(b"IDAT", b"XDAT")),
    ("broken_image", bytes(1000)),
    ("no_image", b""),
    ("oversized_image", gigantic(JPEG, JPEG.index(b"\xff\xc0") + 5)),
    ("no_caption", " \n"),
    ("unreadable", OSError("stale file handle")),
]
"""What stands in place of the image, or of the caption, or is raised when the sample is read."""
