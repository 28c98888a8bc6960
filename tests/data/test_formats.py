"""Records from Parquet, saved data sets, folders of the hub, and tar shards are the same, including images."""

import io
import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from btcchat.data.mixture import Mixture, build_datasets
from btcchat.data.mixture.stream import StreamMixture
from btcchat.data.records import CODES, Records
from btcchat.errors import BTCChatError
from btcchat.media.frames import load_frames
from btcchat.media.source import Embedded

datasets = pytest.importorskip("datasets", reason="needs the extra train")

COLOURS = [(200, 10, 10), (10, 200, 10), (10, 10, 200), (99, 99, 99)]


def png(colour) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(buffer, "png")
    return buffer.getvalue()


def talk(answer: str) -> list[dict]:
    return [{"from": "human", "value": "What is new?"}, {"from": "gpt", "value": answer}]


def colours(record) -> list[tuple]:
    """The colours of its frames, as the sample, to compare everything."""
    frames = load_frames(record.modality, record.sources)
    return [record.conversations[-1]["value"], *(frame.getpixel((0, 0)) for frame in frames)]


PAIR, IMAGE = ["pair", COLOURS[0], COLOURS[1]], ["image", COLOURS[2]]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path


def embedded(rows: int = 1):
    """A data set with pairs in the even rows and single images in the others."""
    rows = [
        {
            "modality": "image" if i % 2 else "pair",
            "images": [{"bytes": png(c), "path": None} for c in ([COLOURS[2]] if i % 2 else COLOURS[:2])],
            "dates": None if i % 2 else ["2010", "2014"],
            "conversations": talk("image" if i % 2 else "pair"),
        }
        for i in range(rows)
    ]
    features = datasets.Features(
        {
            "modality": datasets.Value("string"),
            "images": datasets.List(datasets.Image()),
            "dates": datasets.List(datasets.Value("string")),
            "conversations": datasets.List({"from": datasets.Value("string"), "value": datasets.Value("string")}),
        }
    )
    return datasets.Dataset.from_list(rows, features=features)


@pytest.mark.parametrize("kind", ["rows.parquet", "part-*.parquet", "saved", "hub:"])
def test_images_inside_a_table_are_read(root, kind):
    data = embedded(3)
    if kind == "saved":
        data.save_to_disk(root / "saved")
        annotation = root / "saved"
    else:
        (root / "folder").mkdir()
        data.select([0]).to_parquet(root / "folder" / "part-0.parquet")
        data.select([1, 2]).to_parquet(root / "folder" / "part-1.parquet")
        data.to_parquet(root / "rows.parquet")
        annotation = {"hub:": f"hub:{root}/folder", "part-*.parquet": root / "folder" / kind}.get(kind, root / kind)
    records = Records(annotation, root)
    assert [CODES[code] for code in records.modality_codes] == ["pair", "image", "pair"]
    assert list(records.frames) == [2, 1, 2]
    assert [colours(records[i]) for i in range(3)] == [PAIR, IMAGE, PAIR]
    assert records[0].dates == ["2010", "2014"] and records[1].dates is None


def test_paths_in_a_table_are_relative_to_the_image_root(root):
    (root / "a.png").write_bytes(png(COLOURS[2]))
    rows = [{"modality": "image", "image": "a.png", "conversations": talk("image")}]
    datasets.Dataset.from_list(rows).to_parquet(root / "rows.parquet")
    records = Records(root / "rows.parquet", root)
    assert records[0].where == "rows.parquet row 1"
    assert colours(records[0]) == IMAGE


def test_a_bad_row_of_a_table_is_named(root):
    rows = [{"modality": "image", "image": "a.png", "conversations": talk(answer)} for answer in ("image", " ")]
    datasets.Dataset.from_list(rows).to_parquet(root / "rows.parquet")
    with pytest.raises(BTCChatError, match="rows.parquet row 2: no answer"):
        Records(root / "rows.parquet", root)


def test_a_file_that_is_not_parquet_is_a_one_line_error(root):
    (root / "rows.parquet").write_bytes(b"no")
    with pytest.raises(BTCChatError, match=r"rows.parquet cannot be read: .+") as error:
        Records(root / "rows.parquet", root)
    assert "\n" not in str(error.value)
    # In its own process, since the library logs to the stderr that exists when it is imported.
    code = "import sys; from btcchat.data.records import Records; Records(*sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, root / "rows.parquet", root], capture_output=True, text=True)
    assert "cannot be read" in done.stderr and "Failed to read" not in done.stderr


def test_an_embedded_image_that_cannot_be_read_is_named():
    with pytest.raises(BTCChatError, match="'after.png' is not an image"):
        load_frames("pair", [Embedded("before.png", png(COLOURS[0])), Embedded("after.png", b"no image")])
    with pytest.raises(BTCChatError, match="image 'x.tif' is truncated or damaged: Cannot read TIFF header"):
        load_frames("image", Embedded("x.tif", b"II*\0"))
    with pytest.raises(BTCChatError, match="image 'x.png' is empty"):
        load_frames("image", Embedded("x.png", b""))


def test_an_embedded_tiff_and_video_are_read(tmp_path):
    av = pytest.importorskip("av")
    deep = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(deep, "tiff")
    (tmp_path / "x.tif").write_bytes(deep.getvalue())
    inside, outside = (load_frames("image", one)[0] for one in (Embedded("x.tif", deep.getvalue()), tmp_path / "x.tif"))
    assert inside.tobytes() == outside.tobytes()
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        for colour in COLOURS[:3]:
            frame = av.VideoFrame.from_image(Image.new("RGB", (32, 32), colour))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    clip = Embedded("clip.mp4", (tmp_path / "clip.mp4").read_bytes())
    frames = [load_frames("video", source) for source in (clip, str(tmp_path / "clip.mp4"))]
    assert len(frames[0]) == 3 and [f.tobytes() for f in frames[0]] == [f.tobytes() for f in frames[1]]


# Tar shards ----------------------------------------------------------------------------------------------------------


def shard(path, samples: list[dict[str, bytes | dict]]):
    """A tar of files; a dict is written as JSON."""
    with tarfile.open(path, "w") as tar:
        for number, files in enumerate(samples):
            for extension, content in files.items():
                data = json.dumps(content).encode() if isinstance(content, dict) else content
                info = tarfile.TarInfo(f"{number:04d}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def pair(**more) -> dict:
    return {"modality": "pair", "conversations": talk("pair"), **more}


MIXED = [
    {"json": pair(), "before.png": png(COLOURS[0]), "z_after.png": png(COLOURS[1])},
    {"png": png(COLOURS[2]), "json": {"modality": "image", "conversations": talk("image")}},
    {
        "json": pair(images=["x/0002.t1.png", "x/0002.t0.png"]),
        "t0.png": png(COLOURS[1]),
        "t1.png": png(COLOURS[0]),
    },
    {"json": {"modality": "text", "conversations": talk("text")}},
]


def streamed(root, annotation, **description) -> StreamMixture:
    description = {"annotation": annotation, **description}
    (root / "sets.yaml").write_text(json.dumps({"tar": description}))  # JSON is YAML
    return build_datasets("tar", colours, data_root=root, folder=root)


def test_a_tar_of_mixed_modalities_is_streamed(root):
    shard(root / "a-00.tar", MIXED)
    mixture = streamed(root, "a-00.tar")
    records = list(mixture.records(epoch=0))
    assert [mixture.sample(record) for record in records] == [PAIR, IMAGE, PAIR, ["text"]]
    assert records[2].where == "a-00.tar sample 0002"


@pytest.mark.parametrize("annotation", ["a-*.tar", "a-{00..11}.tar", ["a-0*.tar", "a-10.tar", "a-11.tar"]])
def test_shards_are_found_by_their_pattern(root, annotation):
    for number in range(12):
        shard(root / f"a-{number:02d}.tar", MIXED[:1])
    mixture = streamed(root, annotation)
    assert len(mixture.sets[0]) == 12 == len({record.where for record in mixture.records(0)})


def test_shards_are_read_from_an_address(root):
    for number in range(2):
        shard(root / f"a-{number}.tar", MIXED[:1])
    mixture = streamed(root, f"file://{root}/a-{{0..1}}.tar")
    assert [mixture.sample(record) for record in mixture.records(0)] == [PAIR] * 2
    with pytest.raises(BTCChatError, match="tar shard file://.*a-2.tar cannot be read: .*No such file"):
        list(streamed(root, f"file://{root}/a-2.tar").records(0))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"png": b""}, "a.tar sample 0001: 0 .json files, expected one; found 0001.png"),
        ({"json": b"{"}, "a.tar sample 0001: not JSON .*; correct the file or get it again"),
        ({"json": b"[]"}, "a.tar sample 0001: this is a list, but a record must be a JSON object"),
        ({"json": pair(), "png": png(COLOURS[0])}, r"a.tar sample 0001: 1 image, a pair needs 2 \(before, after\)"),
    ],
)
def test_a_bad_sample_of_a_shard_is_named(root, files, message):
    shard(root / "a.tar", [MIXED[0], files])
    with pytest.raises(BTCChatError, match=message):
        list(streamed(root, "a.tar").records(0))


def test_a_missing_or_truncated_shard_is_named(root):
    with pytest.raises(BTCChatError, match=r"no tar shard .*a-\*.tar; check --data_root"):
        streamed(root, "a-*.tar")
    path = shard(root / "a.tar", MIXED)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(BTCChatError, match="tar shard .*a.tar cannot be read"):
        list(streamed(root, "a.tar").records(0))


def test_a_streamed_set_cannot_be_counted(root):
    shard(root / "a.tar", MIXED)
    with pytest.raises(BTCChatError, match="data set 'tar' is streamed and cannot be counted; leave out @first:2"):
        streamed(root, "a.tar", sampling="first:2")


def test_parquet_is_streamed_on_request(root):
    embedded(5).to_parquet(root / "rows.parquet")
    mixture = streamed(root, "rows.parquet", streaming=True)
    assert [mixture.sample(record) for record in mixture.records(0)] == [PAIR, IMAGE, PAIR, IMAGE, PAIR]
    assert isinstance(streamed(root, "rows.parquet"), Mixture)


def test_a_saved_data_set_that_cannot_be_read_is_a_one_line_error(root):
    embedded(1).save_to_disk(root / "saved")
    [table] = (root / "saved").glob("*.arrow")
    table.write_bytes(table.read_bytes()[:300])
    with pytest.raises(BTCChatError, match=r"^data set .*saved cannot be read: Expected to read"):
        Records(root / "saved", root)
    (root / "saved").rename(root / os.fsdecode(b"k\xf6ln"))
    with pytest.raises(BTCChatError, match=r"'k\\udcf6ln' in its path is not UTF-8; rename it"):
        Records(root / os.fsdecode(b"k\xf6ln"), root)
