"""The data in training.json: the used share of each set, and fingerprints that change with the files."""

import hashlib
import json

import pytest

from btcchat.data.mixture import build_datasets
from btcchat.data.mixture.facts import facts
from tests.data.test_formats import shard

SETS = {
    "rows": {"annotation": "rows.jsonl"},
    "tar": {"annotation": "*.tar"},
    "hub": {"annotation": "hub:folder", "splits": ["train", "test"]},
    "parts": {"annotation": "part-*.parquet"},
    "folder": {"annotation": "folder"},
}


def row(number: int) -> dict:
    talk = [{"from": "human", "value": "?"}, {"from": "gpt", "value": str(number)}]
    return {"modality": "text", "conversations": talk, "captions": [str(number), "many"]}


@pytest.fixture
def recorded(tmp_path):
    """``recorded("rows*2")``: the facts of a mixture."""
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row(i)) for i in range(10)))
    for number in range(2):
        shard(tmp_path / f"{number}.tar", [{"json": row(i)} for i in range(3)])
    (tmp_path / "sets.yaml").write_text(json.dumps(SETS))

    def go(mixture: str) -> list[dict]:
        return facts(build_datasets(mixture, dict, data_root=tmp_path, folder=tmp_path))

    return go


def test_each_share_of_a_set_is_recorded(recorded, tmp_path):
    found = recorded("rows@first:5+rows@end:3*2+rows@flatten_list+rows@first:5")
    said = [(one["set"], one["records"], one["samples"], one["repeats"]) for one in found]
    assert said == [("rows@first:5", 5, 5, 2), ("rows@end:3", 3, 3, 2), ("rows@flatten_list", 10, 20, 1)]
    data = (tmp_path / "rows.jsonl").read_bytes()
    assert all((one["bytes"], one["sha256"]) == (len(data), hashlib.sha256(data).hexdigest()) for one in found)


def test_streamed_sets_are_counted_in_shards_and_other_sets_in_records(recorded, tmp_path):
    tar, rows = recorded("tar*2+rows@first:5")
    assert (tar["set"], tar["shards"], tar["repeats"], tar["files"]) == ("tar", 2, 2, 2) and "records" not in tar
    assert (rows["records"], rows["samples"], rows["repeats"]) == (5, 5, 1) and len(rows["sha256"]) == 64
    assert recorded("tar") == recorded("tar") != recorded("rows")
    shard(tmp_path / "1.tar", [{"json": row(i)} for i in range(30)])
    assert recorded("tar")[0]["sha256_of_names_and_sizes"] != tar["sha256_of_names_and_sizes"]


def test_tables_have_fingerprints_that_distinguish_splits(recorded, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs the extra train")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)  # the folder for "hub:folder", in place of the hub
    for name in ("train", "test"):
        datasets.Dataset.from_list([row(i) for i in range(2)]).to_parquet(tmp_path / "folder" / f"{name}-0.parquet")
        datasets.Dataset.from_list([row(i) for i in range(2)]).to_parquet(tmp_path / f"part-{name}.parquet")
    train, test, parts, folder = recorded("hub+hub:test+parts+folder")
    assert [(one["set"], one["split"]) for one in (train, test)] == [("hub:train", "train"), ("hub:test", "test")]
    assert train["fingerprint"] != test["fingerprint"]
    assert recorded("hub")[0]["fingerprint"] == train["fingerprint"]
    assert (parts["records"], parts["files"], len(parts["sha256"])) == (4, 2, 64)
    assert (folder["records"], folder["files"], len(folder["sha256"])) == (2, 2, 64)
    datasets.Dataset.from_list([row(i) for i in range(3)]).to_parquet(tmp_path / "part-test.parquet")
    assert recorded("parts")[0]["sha256"] != parts["sha256"]
