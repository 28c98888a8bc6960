import os
import shutil

import pytest

from btcchat.checkpoint.hub import resolve
from btcchat.data.mixture.hashes import FileHashes, checkpoint_hash, file_hash


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(resolve(None), tmp_path / "copy")


def test_the_hash_of_a_checkpoint_does_not_depend_on_other_files_of_a_training_run(copy):
    (copy / "training.json").write_text("{}")
    (copy / "selection.json").write_text("{}")
    for name in ("checkpoint-10", "best", "clues"):
        shutil.copytree(resolve(None), copy / name)
    assert checkpoint_hash(copy) == checkpoint_hash(resolve(None))


@pytest.mark.parametrize(
    "file", ["config.json", "llm/model.safetensors", "llm/tokenizer.model", "mm_projector/config.json"]
)
def test_it_depends_on_each_file_of_the_model(copy, file):
    with (copy / file).open("ab") as handle:
        handle.write(b" ")
    assert checkpoint_hash(copy) != checkpoint_hash(resolve(None))


@pytest.mark.parametrize("file", ["model.safetensors", "adapter_model.safetensors", "merges.txt"])
def test_it_depends_on_weights_in_the_folder_itself(copy, file):
    """As in a LLaVA-NeXT folder or an adapter."""
    hashes = []
    for content in (b"one", b"two"):
        (copy / file).write_bytes(content)
        hashes.append(checkpoint_hash(copy))
    assert len({checkpoint_hash(resolve(None)), *hashes}) == 3


def test_a_file_is_hashed_again_if_its_size_or_time_has_changed(tmp_path, monkeypatch):
    path, hashes = tmp_path / "a.png", FileHashes()
    path.write_bytes(b"before")
    os.utime(path, ns=(10**18, 10**18))
    assert hashes(path) == file_hash(path)
    path.write_bytes(b"after!")  # as many bytes
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert hashes(path) == file_hash(path)
    path.write_bytes(b"longer than before")
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert hashes(path) == file_hash(path)
    expected = file_hash(path)
    monkeypatch.setattr("btcchat.data.mixture.hashes.file_hash", None)
    assert hashes(path) == expected, "it is not read again if neither has changed"
