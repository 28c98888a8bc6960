import json
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from btcchat.errors import BTCChatError
from btcchat.media import load_frames


def write_video(path, count: int, codec: str = "mpeg4", size: int = 32):
    """A video whose frame i has the grey 5 * i."""
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


def test_a_video_shorter_than_asked_for_gives_each_frame_once(tmp_path):
    assert numbers(load_frames("video", write_video(tmp_path / "a.mp4", 3), num_video_frames=8)) == [0, 1, 2]


def test_a_stream_without_a_frame_count_is_sampled_alike(tmp_path):
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
def test_a_file_that_is_no_video_is_an_error(tmp_path, name):
    (tmp_path / name).write_text("this is no video, though FFmpeg would show text as moving pictures\n" * 50)
    with pytest.raises(BTCChatError, match=f"{name}' cannot be decoded"):
        load_frames("video", tmp_path / name)


def test_an_image_is_no_video(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(BTCChatError, match="cannot be decoded"):
        load_frames("video", tmp_path / "a.png")


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(BTCChatError, match="no picture, only audio"):
        load_frames("video", path)


def test_a_video_without_a_frame_is_an_error(tmp_path):
    path = write_video(tmp_path / "a.avi", 0)
    with pytest.raises(BTCChatError, match="no frame that can be decoded|cannot be decoded|no picture"):
        load_frames("video", path)


def test_a_video_of_huge_frames_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("btcchat.media.frames.MAX_PIXELS", 1000)
    with pytest.raises(BTCChatError, match="frames of 32 x 32 pixels, the limit is 1,000"):
        load_frames("video", write_video(tmp_path / "a.mp4", 3))


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
