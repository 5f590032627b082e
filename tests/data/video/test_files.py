"""Video files through PyAV: exact frames of several formats, damage, and what it takes."""

import io
import sys

import numpy as np
import pytest
from shards import number_of, refusal, solid

from clip_jax.data.bad import BadSample, decoding
from clip_jax.data.video import files
from clip_jax.data.video.files import VideoFile, import_av
from clip_jax.data.video.frames import middle_frames

FORMATS = [("mp4", "mpeg4"), ("avi", "mpeg4"), ("mkv", "mpeg4"), ("webm", "libvpx")]


def make_video(numbers, form="mp4", codec="mpeg4", size=(64, 48)):
    """A file of pictures `solid(20 * number)`, which lossy codecs keep apart."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    file = io.BytesIO()
    with av.open(file, "w", format="matroska" if form == "mkv" else form) as container:
        try:
            stream = container.add_stream(codec, rate=10)
        except av.FFmpegError:
            pytest.skip(f"this PyAV has no {codec}")
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in numbers:
            frame = av.VideoFrame.from_image(solid(20 * number, size))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def numbers_of(frames):
    return [round(number_of(frame) % 256 / 20) for frame in frames]


@pytest.mark.parametrize(("form", "codec"), FORMATS)
def test_frames_by_their_numbers(form, codec):
    video = VideoFile(make_video(range(12), form, codec))
    frames = video.frames(lambda total: middle_frames(total, 4))
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert {frame.dtype for frame in frames} == {np.dtype(np.uint8)}
    assert numbers_of(frames) == [1, 4, 7, 10]
    assert numbers_of(video.frames(lambda total: [0, 0, total - 1])) == [0, 0, 11]


def test_frames_past_the_end_are_the_last():
    video = VideoFile(make_video(range(3)))
    assert numbers_of(video.frames(lambda total: [1, total, total + 5])) == [1, 2, 2]


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:40], lambda c: b"\0" * 2000])
def test_damaged_files_are_bad_samples(damage):
    content = damage(make_video(range(12)))
    with pytest.raises(BadSample) as caught, decoding("clip"):
        VideoFile(content).frames(lambda total: middle_frames(total, 4))
    assert caught.value.reason == "broken_image"


def grown(sizes):
    """A file that says it has frames of the first size, and has one of each."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as container:
        stream = None
        for number, size in enumerate(sizes):
            try:
                with av.open(io.BytesIO(make_video([number], "webm", "libvpx", size))) as one:
                    stream = stream or container.add_stream_from_template(one.streams.video[0])
                    packet = next(one.demux(video=0))
                    packet.stream, packet.pts, packet.dts = stream, 100 * number, 100 * number
                    container.mux(packet)
            except av.FFmpegError:
                pytest.skip("this PyAV has no libvpx")
    return file.getvalue()


def test_frames_too_large_for_memory_are_refused(monkeypatch):
    monkeypatch.setattr(files, "MAX_PIXELS", 64 * 48)
    assert len(VideoFile(make_video(range(3))).frames(range)) == 3
    with pytest.raises(ValueError, match="frames of 80 x 48 pixels"):
        VideoFile(make_video(range(3), size=(80, 48))).frames(range)
    content = grown([(64, 48), (80, 64)])
    assert len(VideoFile(content).frames(lambda total: [0])) == 1
    with pytest.raises(ValueError, match="frames of 80 x 64 pixels"):
        VideoFile(content).frames(lambda total: [1])


def test_a_playlist_opens_no_other_file(tmp_path):
    other = tmp_path / "other.mp4"
    other.write_bytes(make_video(range(3)))
    listed = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{other}\n#EXT-X-ENDLIST\n"
    for content in (listed.encode(), f"ffconcat version 1.0\nfile {other}\n".encode()):
        with pytest.raises(ValueError, match="not a readable video"):
            VideoFile(content).frames(range)


def test_without_pyav_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert refusal(import_av) == "video files need another package; pip install av"
