import json
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.media import load_frames
from btcchat.media.frames import evenly
from btcchat.media.video import _evenly_in_time, _times


def write_video(path, count: int, codec: str = "mpeg4", size: int = 32):
    """Write a video whose frame i has the grey level 5 * i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((size, size, 3), 5 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbers(frames: list[Image.Image]) -> list[int]:
    return [round(float(np.asarray(frame).mean()) / 5) for frame in frames]


KINDS = [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mkv", "mpeg4"), ("a.webm", "libvpx"), ("a.ts", "mpeg2video")]


@pytest.mark.parametrize("name, codec", KINDS)
def test_frames_come_evenly_from_the_first_to_the_last(tmp_path, name, codec):
    frames = load_frames("video", write_video(tmp_path / name, 41, codec), num_video_frames=5)
    assert numbers(frames) == [0, 10, 20, 30, 40]


def test_a_video_shorter_than_requested_gives_each_frame_once(tmp_path):
    assert numbers(load_frames("video", write_video(tmp_path / "a.mp4", 3), num_video_frames=8)) == [0, 1, 2]


def test_a_stream_without_a_frame_count_is_sampled_in_the_same_way(tmp_path):
    path = tmp_path / "a.h264"  # a bare stream: no header, no duration, no time stamps
    with av.open(str(path), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for i in range(41):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 5 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 0
    assert numbers(load_frames("video", path, num_video_frames=5)) == [0, 10, 20, 30, 40]


def test_a_cut_off_video_is_sampled_over_what_is_left(tmp_path):
    path = write_video(tmp_path / "a.mkv", 41)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    chosen = numbers(load_frames("video", path, num_video_frames=5))
    assert len(chosen) == 5 and chosen[0] == 0 and 15 < chosen[-1] < 35
    assert np.diff(chosen).max() <= 8  # not the 10 of the whole video


def test_a_video_in_a_folder_of_two_frames_is_still_a_video(tmp_path):
    for i in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    assert len(load_frames("video", tmp_path)) == 2


@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a.avi"])
def test_a_file_that_is_not_a_video_is_an_error(tmp_path, name):
    (tmp_path / name).write_text("this is not a video, though FFmpeg would show text as moving pictures\n" * 50)
    with pytest.raises(BTCChatError, match=f"{name}' cannot be decoded"):
        load_frames("video", tmp_path / name)


def test_an_image_is_not_a_video(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(BTCChatError, match="cannot be decoded: .*; convert it to MP4"):
        load_frames("video", tmp_path / "a.png")


def test_sound_alone_is_not_a_video(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(BTCChatError, match="no moving picture, only audio"):
        load_frames("video", path)


def test_a_video_without_a_frame_is_an_error(tmp_path):
    path = write_video(tmp_path / "a.avi", 0)
    with pytest.raises(BTCChatError, match="no frame that can be decoded|cannot be decoded|no picture"):
        load_frames("video", path)


def test_the_pixels_of_all_frames_together_are_limited(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", 10)
    monkeypatch.setattr("btcchat.media.frames.MAX_PIXELS", 3 * 32 * 32)
    assert len(load_frames("video", path, num_video_frames=3)) == 3
    with pytest.raises(BTCChatError, match="4 frames of 32 x 32 pixels, the limit is 3,072 pixels in total; scale it"):
        load_frames("video", path, num_video_frames=4)
    monkeypatch.setattr("btcchat.media.video.MAX_DECODED", 9 * 32 * 32)
    with pytest.raises(BTCChatError, match="has 10 frames of 32 x 32 pixels, the limit is 9,216 pixels; cut it"):
        load_frames("video", path, num_video_frames=3)


def test_a_small_gif_of_huge_frames_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.gif"
    pages = [Image.new("P", (3000, 3000), i) for i in range(16)]
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=100)
    assert path.stat().st_size < 2**20  # and 432 MB once decoded
    monkeypatch.setattr("btcchat.media.video._decode", None)
    with pytest.raises(BTCChatError, match="16 frames of 3000 x 3000 pixels, the limit is 134,217,728"):
        load_frames("video", path, num_video_frames=16)


# What a display matrix (a, b, c, d) does to a frame whose four corners have the levels 40, 100, 160, 220.
TURNED = {
    (1, 0, 0, 1): [[40, 100], [160, 220]],
    (0, 1, -1, 0): [[160, 40], [220, 100]],
    (-1, 0, 0, -1): [[220, 160], [100, 40]],
    (0, -1, 1, 0): [[100, 220], [40, 160]],
    (-1, 0, 0, 1): [[100, 40], [220, 160]],
    (1, 0, 0, -1): [[160, 220], [40, 100]],
    (0, 1, 1, 0): [[40, 160], [100, 220]],
    (0, -1, -1, 0): [[220, 100], [160, 40]],
}


@pytest.mark.parametrize("matrix", TURNED)
def test_frames_are_rotated_and_mirrored_as_in_a_video_player(tmp_path, matrix):
    stored = np.kron([[40, 100], [160, 220]], np.ones((16, 32))).astype(np.uint8)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        a, b, c, d = (65536 * value for value in matrix)
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.dstack([stored] * 3), format="rgb24")))
        container.mux(stream.encode())
    (frame,) = load_frames("video", tmp_path / "a.mp4")
    assert frame.size == ((32, 64) if matrix[0] == 0 else (64, 32))
    shown = np.asarray(frame)[..., 0]
    corners = [[shown[y, x] for x in (2, -3)] for y in (2, -3)]
    np.testing.assert_allclose(corners, TURNED[matrix], atol=8)


def test_a_rotated_video_from_a_phone_is_upright(shared):
    case = shared / "cases/09-video-rotation"
    plain, turned, over = (load_frames("video", case / f"{name}.mp4") for name in ("plain", "rot90", "rot180"))
    for transpose, frames in ((Image.Transpose.ROTATE_270, turned), (Image.Transpose.ROTATE_180, over)):
        assert [frame.tobytes() for frame in frames] == [frame.transpose(transpose).tobytes() for frame in plain]


def test_the_video_is_read_and_not_its_cover(shared, caplog):
    caplog.set_level("INFO")
    frames = load_frames("video", shared / "cases/10-video-streams-and-time/cover.mkv")
    assert len(frames) == 8 and frames[0].size == (160, 96)
    assert "stream 1 of 2 video streams is read" in caplog.text


def test_a_cover_alone_is_not_a_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        stream.disposition = Disposition.attached_pic
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(BTCChatError, match="no moving picture, only a cover"):
        load_frames("video", tmp_path / "a.mp4")


def write_streams(path, *streams) -> None:
    """Write a video; each stream is (disposition, size, number of frames)."""
    with av.open(str(path), "w") as container:
        opened = []
        for disposition, size, count in streams:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width = stream.height = size
            stream.pix_fmt = "yuv420p"
            if disposition:
                stream.disposition = getattr(Disposition, disposition)
            opened.append((stream, size, count))
        for stream, size, count in opened:
            for _ in range(count):
                frame = av.VideoFrame.from_ndarray(np.zeros((size, size, 3), np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


@pytest.mark.parametrize(
    "streams",
    [
        [(None, 16, 5), (None, 64, 5)],  # the largest
        [(None, 96, 1), (None, 64, 5)],  # except a still one
        [(None, 96, 5), ("default", 64, 5)],  # unless another one is the default
    ],
)
def test_the_best_stream_is_read(tmp_path, streams):
    write_streams(tmp_path / "a.mkv", *streams)
    assert {frame.size for frame in load_frames("video", tmp_path / "a.mkv")} == {(64, 64)}


def test_frames_are_evenly_spaced_in_time_if_the_rate_varies(shared):
    """16 frames in the first second, 4 in the next nine; 255 is 10 s."""
    frames = load_frames("video", shared / "cases/10-video-streams-and-time/vfr.mkv")
    seconds = [float(np.asarray(frame).mean()) / 25.5 for frame in frames]
    assert seconds == pytest.approx([0, 1, 4, 4, 7, 7, 10, 10], abs=0.1)
    (middle,) = load_frames("video", shared / "cases/10-video-streams-and-time/vfr.mkv", num_video_frames=1)
    assert float(np.asarray(middle).mean()) / 25.5 == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("wanted", [1, 2, 5, 8, 16])
@pytest.mark.parametrize("rate", [Fraction(30), Fraction(30000, 1001), Fraction(24)])
def test_a_constant_rate_gives_evenly_spaced_frame_numbers(rate, wanted):
    """As in the published code; Matroska stores times in whole milliseconds."""
    times = [round(1000 * number / rate) for number in range(157)]
    assert _evenly_in_time(times, wanted) == [times[number] for number in evenly(157, wanted)]


def test_missing_or_decreasing_times_are_replaced_by_frame_numbers():
    assert _times([(20, 0), (0, 10), (10, 20)]) == [0, 10, 20]
    for stamps in ([(0, 0), (None, 10)], [(0, 0), (10, 10), (5, 5)], [(0, None), (0, None)]):
        assert _times(stamps) == range(len(stamps))


@pytest.mark.parametrize("video", ["a.mp4", ["a.mp4"]])
def test_data_check_reads_a_video_alone_or_in_a_list_as_training_does(tmp_path, capsys, video):
    from btcchat import cli

    write_video(tmp_path / "a.mp4", 3)
    assert len(load_frames("video", [tmp_path / "a.mp4"])) == 3
    talk = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "two houses"}]
    row = {"modality": "video", "video": video, "conversations": talk}
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    (tmp_path / "sets.yaml").write_text("mine: {annotation: rows.json, images: .}\n")
    words = ["data", "check", "mine", "--workers", "0", "--data-root", str(tmp_path), "--mixture-folder", str(tmp_path)]
    assert cli.main(words) == 0, capsys.readouterr().out


def test_every_frame_is_taken_if_there_are_no_more_than_requested():
    assert _evenly_in_time([0, 1, 2, 3, 20], 5) == [0, 1, 2, 3, 20]
    assert _evenly_in_time([0, 1, 2, 3, 20], 4) == [0, 3, 20, 20]


def test_a_damaged_video_is_sampled_up_to_the_damage(tmp_path, caplog):
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:  # a codec that raises for a damaged frame
        stream = container.add_stream("png", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "rgb24"
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 5 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
    data = path.read_bytes()
    places = [place for place in range(len(data)) if data.startswith(b"\x89PNG", place)]
    for place in places[6:]:
        data = data[:place] + b"XXXX" + data[place + 4 :]
    path.write_bytes(data)
    with caplog.at_level("INFO", "btcchat"):
        chosen = numbers(load_frames("video", path, num_video_frames=3))
    assert chosen[0] == 0 and chosen[-1] == 5 and "damaged after frame" in caplog.text
