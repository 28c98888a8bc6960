"""A tokenizer.json of any family is read as it is, whichever version of the tokenizers library wrote it."""

import json
import subprocess
import sys

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from btcchat.errors import BTCChatError
from btcchat.language_model.tokenizer import load_tokenizer
from tests.tiny import CORPUS

TEXTS = ["two houses are built", "What changed?  USER: <|im_start|>x<|im_end|>", "\n\n\u00e9t\u00e9 ", ""]


@pytest.fixture
def folder(tmp_path):
    """Like SmolLM2's: byte-level BPE with GPT-2's class, and special tokens in the file."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=350, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def rewrite(file, listed: bool) -> None:
    """Write the merges as lists of two (tokenizers from 0.20 on), or as lines (before)."""
    content = json.loads(file.read_text())
    pairs = [merge if isinstance(merge, list) else merge.split(" ") for merge in content["model"]["merges"]]
    content["model"]["merges"] = pairs if listed else [" ".join(pair) for pair in pairs]
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("listed", [False, True])
def test_merges_are_read_as_lines_and_as_lists_and_the_file_is_not_changed(folder, listed):
    expected = [Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids for text in TEXTS]
    rewrite(folder / "tokenizer.json", listed)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    tokenizer = load_tokenizer(folder)
    assert [tokenizer(text).input_ids for text in TEXTS] == expected
    assert [tokenizer.decode(ids) for ids in expected] == TEXTS
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_spaces_before_punctuation_are_kept_by_default(folder):
    """transformers before 5 removed them by default."""
    tokenizer = load_tokenizer(folder)
    assert tokenizer.clean_up_tokenization_spaces is False
    assert tokenizer.decode(tokenizer("built .").input_ids) == "built ."


def test_a_saved_tokenizer_is_read_again(folder, tmp_path):
    tokenizer = load_tokenizer(folder)
    tokenizer.save_pretrained(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert [again(text).input_ids for text in TEXTS] == [tokenizer(text).input_ids for text in TEXTS]


def test_a_broken_file_is_one_line_that_names_it(folder):
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": [], "merges": [["a"]]}}')
    with pytest.raises(BTCChatError, match="tokenizer.json is not a tokenizer .*; download or save it again$"):
        load_tokenizer(folder)


def test_a_fast_tokenizer_does_not_warn_in_forked_processes(folder, monkeypatch, capfd):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    tokenizer = load_tokenizer(folder)
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).encode_batch(["a"] * 1000)  # in several threads, if allowed
    subprocess.run([sys.executable, "-c", ""], preexec_fn=lambda: None, check=True)
    assert tokenizer.is_fast and "forked" not in capfd.readouterr().err
