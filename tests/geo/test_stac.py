"""STAC items: the file and the date of an asset."""

import json

import pytest

from btcchat.errors import BTCChatError
from btcchat.geo.inputs import stac_files
from tests.geo.drawn import run_command


def stac_item(href: str, **properties) -> dict:
    return {"type": "Feature", "id": "one", "properties": properties, "assets": {"visual": {"href": href}}}


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("./v.tif", "{folder}/items/v.tif"),
        ("../images/v.tif", "{folder}/images/v.tif"),
        ("/data/v.tif", "/data/v.tif"),
        ("https://example.org/v.tif", "/vsicurl/https://example.org/v.tif"),
        ("s3://bucket/v.tif", "/vsis3/bucket/v.tif"),
    ],
)
def test_a_relative_asset_starts_at_its_item(tmp_path, href, path):
    item = tmp_path / "items" / "one.json"
    item.parent.mkdir()
    item.write_text(json.dumps(stac_item(href, datetime="2020-02-03T00:00:00Z")))
    files = stac_files(item, "visual", allow_remote=True)
    assert files.paths == (path.format(folder=tmp_path),) and files.date == "2020-02-03" and files.name == "one"
    if files.remote:
        with pytest.raises(BTCChatError, match="add --allow-remote"):
            stac_files(item, "visual")


def test_an_item_that_covers_a_span_of_time_has_its_first_day(tmp_path):
    item = tmp_path / "one.json"
    item.write_text(json.dumps(stac_item("v.tif", datetime=None, start_datetime="2020-06-01T00:00:00Z")))
    assert stac_files(item, "visual").date == "2020-06-01"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (stac_item("v.tif"), "has no asset 'B04'; give --asset one of its assets: visual"),
        ({"type": "Feature", "properties": []}, "has no asset 'B04'; give --asset one of its assets: none"),
        ({"type": "FeatureCollection", "features": []}, "is not a STAC item: its type is 'FeatureCollection'"),
        ({"type": "Collection", "assets": {}}, "is not a STAC item: its type is 'Collection', expected 'Feature'"),
    ],
)
def test_anything_but_an_item_with_the_asset_gives_one_line(tmp_path, content, words):
    (tmp_path / "one.json").write_text(json.dumps(content))
    with pytest.raises(BTCChatError, match=words):
        stac_files(tmp_path / "one.json", "B04")


def test_the_command_reads_an_asset_of_two_items(pair, tmp_path, stub):
    items = []
    for path, day in zip(pair, ("2018-04-05", "2020-07-08"), strict=True):
        item = stac_item(path.name, datetime=f"{day}T10:00:00Z") | {"id": f"scene-{day}"}
        items.append(tmp_path / f"{day}.json")
        items[-1].write_text(json.dumps(item))
    words = ["--asset", "visual", "--tile", 192, "--threshold", 0.2]
    assert run_command("--stac", *items, "--out", tmp_path / "out", *words) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [date["date"] for date in record["dates"]] == ["2018-04-05", "2020-07-08"]
    assert record["dates"][0]["name"] == "scene-2018-04-05" and record["counts"]["done"] == 9
