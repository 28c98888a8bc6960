import base64
import io
import json

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from btcchat.change_encoder.change_map import overlay
from btcchat.media import load_frames
from tests.serve.http.conftest import AFTER, BEFORE, PAIR, data_url, image, words


def tiff(seed: int = 0, size: int = 64, bands: int = 4, *, place: bool = True) -> bytes:
    """A 16-bit GeoTIFF."""
    values = np.random.default_rng(seed).integers(100, 3000, (bands, 64, 64), dtype=np.uint16)
    values = values.repeat(-(-size // 64), 1).repeat(-(-size // 64), 2)[:, :size, :size]
    place = {"crs": "EPSG:32633", "transform": from_origin(500000, 4600000, 10, 10)} if place else {}
    facts = {"width": size, "height": size, "count": bands, "dtype": "uint16", "compress": "deflate", **place}
    with rasterio.MemoryFile() as file:
        with file.open(driver="GTiff", **facts) as target:
            target.write(values)
        return bytes(file.read())


def refusal(response) -> dict:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"] and len(error["message"]) <= 300
    return error


def test_a_pair_is_captioned(live, tiny):
    reply = live.upload("/v1/caption", max_tokens=60)
    assert reply.status_code == 200
    assert reply.json()["caption"] == tiny.caption(BEFORE, AFTER, max_new_tokens=60)
    assert reply.json()["btcchat"] == {"modality": "pair", "images": 2}
    assert reply.json()["usage"]["total_tokens"] > 80


def test_dates_and_sampling_are_passed_on(live, tiny):
    reply = live.upload("/v1/caption", dates=["2019", "2021"], temperature=1.0, seed=3, max_tokens=20)
    expected = tiny.caption(BEFORE, AFTER, dates=["2019", "2021"], temperature=1.0, seed=3, max_new_tokens=20)
    assert reply.json()["caption"] == expected


def test_rasters_are_read_with_bands_and_stretch(live, tiny):
    pair = tiff(1), tiff(2)
    plain = live.upload("/v1/frames".replace("frames", "caption"), *pair, max_tokens=30)
    assert plain.status_code == 200
    frames = live.post("/v1/frames", files=files(*pair), data={"modality": "pair", "bands": "4,3,2"}).json()["frames"]
    assert [frame["bands"] for frame in frames] == [[4, 3, 2]] * 2
    assert frames[0]["range"] == frames[1]["range"]  # they share one stretch
    fixed = live.post("/v1/frames", files=files(*pair), data={"modality": "pair", "stretch": "0,3000"}).json()["frames"]
    assert fixed[0]["range"] == [0, 3000]


def files(*contents: bytes) -> list:
    return [("files", ("x", content)) for content in contents]


def test_frames_are_shown_as_the_model_sees_them(live):
    reply = live.post("/v1/frames", files=files(BEFORE.read_bytes()), data={"modality": "image"}).json()
    [frame] = reply["frames"]
    seen = Image.open(io.BytesIO(base64.b64decode(frame["url"].partition(",")[2])))
    assert seen.size == (frame["width"], frame["height"]) == (256, 256)
    assert (np.asarray(seen) == np.asarray(load_frames("image", BEFORE)[0])).all()


def test_a_large_image_is_scaled_down(live):
    large = io.BytesIO()
    Image.new("RGB", (3000, 1500)).save(large, "PNG")
    [frame] = live.post("/v1/frames", files=files(large.getvalue()), data={"modality": "image"}).json()["frames"]
    assert (frame["width"], frame["height"]) == (1024, 512)


def test_a_change_map_is_grey_and_comes_with_its_range(live, tiny):
    reply = live.upload("/v1/change_map")
    change = tiny.change_map(BEFORE, AFTER)
    assert reply.headers["content-type"] == "image/png"
    assert (np.asarray(Image.open(io.BytesIO(reply.content))) == (change * 255).round()).all()
    low, high = map(float, reply.headers["x-change-range"].split(","))
    assert (low, high) == pytest.approx((change.min(), change.max()), abs=1e-6)


def test_a_change_map_can_be_drawn_over_the_image(live, tiny):
    reply = live.upload("/v1/change_map", format="overlay")
    expected = overlay(tiny.change_map(BEFORE, AFTER), Image.open(AFTER))
    assert (np.asarray(Image.open(io.BytesIO(reply.content))) == np.asarray(expected)).all()


def test_a_change_map_can_be_a_geotiff_with_the_georeference_of_the_image(live, tiny):
    reply = live.upload("/v1/change_map", tiff(1), tiff(2), format="geotiff")
    assert reply.headers["content-type"] == "image/tiff"
    with rasterio.MemoryFile(reply.content) as file, file.open() as found:
        assert found.crs.to_epsg() == 32633
        assert found.transform == from_origin(500000, 4600000, 10, 10)
        assert (found.width, found.height, found.dtypes) == (64, 64, ("float32",))
        values = found.read(1)
    assert 0 <= values.min() < values.max() <= 1


def test_the_map_of_a_raster_that_is_read_at_a_lower_resolution_covers_the_same_ground(live):
    reply = live.upload("/v1/change_map", tiff(1, 4200, 1), tiff(2, 4200, 1), format="geotiff")
    with rasterio.MemoryFile(reply.content) as file, file.open() as found:
        assert found.width == 2100
        assert found.bounds == (500000, 4600000 - 42000, 542000, 4600000)


def test_a_chat_takes_rasters_too(live):
    content = [image(tiff(1)), {"type": "image_url", "image_url": {"url": data_url(tiff(2), "image/tiff")}}, words()]
    reply = live.ask(*content, bands="4,3,2", stretch="per-date", max_tokens=5)
    assert reply.status_code == 200, reply.text
    assert live.ask(*content, bands="9,3,2").json()["error"]["message"].startswith("image 'image 1'")


@pytest.mark.parametrize("path", ["/v1/caption", "/v1/change_map"])
@pytest.mark.parametrize(
    "content, message",
    [
        (b"not an image", "'after: x' is not an image that can be read"),
        (b"", "image 'after: x' is empty"),
        (AFTER.read_bytes()[:3000], "image 'after: x' (256 x 256) is truncated or damaged"),
        (b"II*\0" + bytes(100), "image 'after: x' is truncated or damaged"),
    ],
)
def test_a_file_that_is_not_an_image_is_415(live, path, content, message):
    reply = live.upload(path, after=content)
    assert reply.status_code == 415
    assert refusal(reply)["message"].startswith(message)


@pytest.mark.parametrize(
    ("own", "shown"),
    [
        ("roof.png", "image 2: roof.png"),
        ("C:\\photos\\roof.png", "image 2: roof.png"),
        ("../../etc/roof\x1b[31m.png", "image 2: roof\\x1b[31m.png"),
        ("r" * 500 + "oof.tif", f"image 2: {'r' * 47}...rrroof.tif"),
        ("a/", "image 2"),
    ],
)
def test_an_unreadable_file_is_named_by_its_own_name(live, own, shown):
    files = [("files", ("before.png", BEFORE.read_bytes())), ("files", (own, b"not an image"))]
    reply = live.post("/v1/frames", files=files, data={"modality": "pair"})
    assert reply.status_code == 415
    assert refusal(reply)["message"].startswith(f"'{shown}' is not an image that can be read")


@pytest.mark.parametrize(
    "path, fields, param",
    [
        ("/v1/caption", {"max_tokens": 0}, "max_tokens"),
        ("/v1/caption", {"max_tokens": "many"}, "max_tokens"),
        ("/v1/caption", {"max_tokens": 9999}, "max_tokens"),
        ("/v1/caption", {"temperature": "nan"}, "temperature"),
        ("/v1/caption", {"temperature": 1e-9}, "temperature"),
        ("/v1/caption", {"top_p": 2}, "top_p"),
        ("/v1/caption", {"seed": -1}, "seed"),
        ("/v1/caption", {"bands": "1,2"}, "bands"),
        ("/v1/caption", {"stretch": "wide"}, "stretch"),
        ("/v1/caption", {"dates": ["2019"]}, "dates"),
        ("/v1/caption", {"band": "4,3,2"}, "band"),
        ("/v1/caption", {"bands": ["4,3,2", "1,2,3"]}, "bands"),
        ("/v1/change_map", {"nodata": "x"}, "nodata"),
        ("/v1/change_map", {"format": "gif"}, "format"),
        ("/v1/change_map", {"format": "geotiff"}, "after"),  # a PNG has no georeference
    ],
)
def test_a_wrong_field_is_422_and_named(live, path, fields, param):
    reply = live.upload(path, **fields)
    assert reply.status_code == 422
    assert refusal(reply)["param"] == param


def test_a_missing_file_is_422_and_named(live):
    reply = live.post("/v1/caption", files={"before": BEFORE.read_bytes()})
    assert (reply.status_code, refusal(reply)["param"]) == (422, "after")
    reply = live.post("/v1/caption", files={"before": BEFORE.read_bytes()}, data={"after": str(AFTER)})
    assert refusal(reply)["message"] == "after: expected a file, but it is text; with curl, write -F after=@FILE"
    reply = live.post("/v1/frames", files=files(b"x"))
    assert (reply.status_code, refusal(reply)["param"]) == (422, "modality")


def test_a_body_of_another_type_is_refused(live):
    reply = live.post("/v1/caption", json={"before": "x"})
    assert reply.status_code == 415
    assert "multipart/form-data" in refusal(reply)["message"]


def test_a_raster_without_georeference_gives_no_geotiff(live):
    reply = live.upload("/v1/change_map", tiff(1, place=False), tiff(2, place=False), format="geotiff")
    assert "no coordinate reference system" in refusal(reply)["message"]
    reply = live.upload("/v1/change_map", format="geotiff")  # PNGs
    assert refusal(reply)["message"].endswith("has no coordinate reference system; request a PNG")


def test_a_wrong_number_of_files_is_415(live):
    reply = live.post("/v1/frames", files=files(BEFORE.read_bytes()), data={"modality": "pair"})
    assert reply.status_code == 415
    assert "1 image, a pair needs 2" in refusal(reply)["message"]


def test_a_video_is_shown_and_can_be_asked_about(live, tmp_path):
    clip = video(tmp_path / "clip.mp4")
    reply = live.post("/v1/frames", files=files(clip), data={"modality": "video"})
    assert len(reply.json()["frames"]) == 8
    part = {"type": "video_url", "video_url": {"url": data_url(clip, "video/mp4")}}
    reply = live.ask(part, words("What happens?"), max_tokens=10)
    assert reply.json()["btcchat"] == {"modality": "video", "images": 8}
    assert live.ask(part, image(), words()).json()["error"]["param"] == "messages"
    assert live.ask(part, words(), modality="series").json()["error"]["param"] == "modality"
    broken = {"type": "video_url", "video_url": {"url": data_url(clip[:200])}}
    assert "video 'video' cannot be decoded" in live.ask(broken, words()).json()["error"]["message"]


def test_a_video_that_would_take_long_to_decode_is_refused(live, tmp_path, monkeypatch):
    monkeypatch.setattr("btcchat.serve.http.images.MAX_DECODED", 40_000)
    reply = live.post("/v1/frames", files=files(video(tmp_path / "clip.mp4")), data={"modality": "video"})
    assert reply.status_code == 415
    assert "12 frames of 64 x 64 pixels, the limit is 40,000 pixels" in refusal(reply)["message"]


def video(path) -> bytes:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 64
        for number in range(12):
            picture = np.full((64, 64, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path.read_bytes()


def test_nothing_of_an_image_is_logged(live, caplog):
    live.ask(*PAIR, words("a secret question"))
    live.upload("/v1/caption", after=b"secret bytes")
    assert "secret" not in caplog.text and "iVBOR" not in caplog.text
    assert json.dumps(live.get("/v1/models").json())
