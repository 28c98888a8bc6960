"""On every version of transformers, the SentencePiece tokenizer gives the ids and texts of version 4.36.2."""

import hashlib
import json
import pickle
from pathlib import Path
from random import Random

import pytest
import transformers

import btcchat
from btcchat.errors import BTCChatError
from btcchat.language_model.llama_tokenizer import LlamaTokenizer
from btcchat.language_model.tokenizer import load_tokenizer

TINY = Path(btcchat.__file__).parent / "assets/tiny/llm"
PARTS = [
    *(" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\N{NO-BREAK SPACE}", "\N{IDEOGRAPHIC SPACE}"),
    *("\u2581", "\u2581\u2581"),
    *("<s>", "</s>", "<unk>", "<s", "s>", "<<s>>", " </s> ", "<pad>", "<image>", "<0x0A>", "[INST]", "<|im_end|>"),
    *("two", " houses", " were", " built", ".", ",", "The", " scene", "USER:", " ASSISTANT:", " ASSISTANT: ", "A chat"),
    *("0", "12", "3.14", "2010-2014", "na\u00efve", "\u00fc", "\u5efa\u7269", "\u0645\u0628\u0646\u0649"),
    *("\U0001f3e0", "e\u0301", "\u200b", "\x00", "\ufffd"),
]  # fmt: skip
# Results of transformers 4.36.2 for TEXTS: (tokenizer, legacy) -> the beginning of `digest`.
PUBLISHED = {
    ("tiny", False): "98d38f28003af7e6",
    ("tiny", True): "64f5d9bdd0d968ea",
    ("golden", False): "d4f7ae4609f34324",
    ("golden", True): "66e0dc591217bce6",
}


def texts() -> list[str]:
    random = Random(15)

    def below(n: int) -> int:
        return int(random.random() * n)

    found = dict.fromkeys(["", *PARTS])
    while len(found) < 2000:
        found["".join(PARTS[below(len(PARTS))] for _ in range(1 + below(8)))] = None
    return list(found)


TEXTS = texts()


def digest(tokenizer) -> str:
    rows = []
    for text in TEXTS:
        ids = tokenizer(text).input_ids
        plain = tokenizer(text, add_special_tokens=False).input_ids
        decoded = [tokenizer.decode(ids), tokenizer.decode(plain), tokenizer.decode(ids, skip_special_tokens=True)]
        rows.append([ids, plain, decoded])
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def folder_of(name: str, request) -> Path:
    return TINY if name == "tiny" else request.getfixturevalue("shared") / "golden/unirs/checkpoint/llm"


CASES = [(name, legacy) for name in ("tiny", "golden") for legacy in (False, True)]


@pytest.mark.parametrize(("name", "legacy"), CASES)
def test_ids_and_decoded_texts_are_those_of_4_36_2(name, legacy, request):
    assert (
        digest(LlamaTokenizer.from_pretrained(str(folder_of(name, request)), legacy=legacy)) == PUBLISHED[name, legacy]
    )


@pytest.mark.skipif(transformers.__version__ != "4.36.2", reason="the class that the digests were computed with")
@pytest.mark.parametrize(("name", "legacy"), CASES)
def test_the_digests_are_those_of_the_published_class(name, legacy, request):
    published = transformers.LlamaTokenizer.from_pretrained(str(folder_of(name, request)), legacy=legacy)
    ours = LlamaTokenizer.from_pretrained(str(folder_of(name, request)), legacy=legacy)
    for text in TEXTS:  # the digest would not show which text differs
        ids = published(text).input_ids
        assert ours(text).input_ids == ids, repr(text)
        assert ours.decode(ids) == published.decode(ids), repr(text)
    assert digest(published) == PUBLISHED[name, legacy]


def test_a_llama_folder_gets_this_class_whatever_its_config_names(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes((TINY / "tokenizer.model").read_bytes())
    for settings in (None, {"tokenizer_class": "LlamaTokenizerFast", "legacy": False}):
        if settings:
            (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        tokenizer = load_tokenizer(tmp_path)
        assert isinstance(tokenizer, LlamaTokenizer)
        assert tokenizer.legacy is (settings is None)
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)


def test_a_saved_tokenizer_is_read_here_and_by_the_published_class(tmp_path):
    tokenizer = load_tokenizer(TINY)
    tokenizer.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.model").read_bytes() == (TINY / "tokenizer.model").read_bytes()
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (settings["tokenizer_class"], settings["legacy"]) == ("LlamaTokenizer", False)
    again = load_tokenizer(tmp_path)
    assert [again(text).input_ids for text in PARTS] == [tokenizer(text).input_ids for text in PARTS]


def test_a_copy_in_another_process_gives_the_same_ids():
    tokenizer = load_tokenizer(TINY)
    again = pickle.loads(pickle.dumps(tokenizer))  # noqa: S301 - our own bytes
    assert [again(text).input_ids for text in PARTS] == [tokenizer(text).input_ids for text in PARTS]


def test_an_added_token_is_one_id_and_decodes_unchanged():
    tokenizer = load_tokenizer(TINY)
    tokenizer.add_tokens(["<place>"])
    ids = tokenizer("two<place>houses", add_special_tokens=False).input_ids
    assert ids.count(len(tokenizer) - 1) == 1
    assert tokenizer.decode(ids) == "two<place>houses"


def test_the_end_of_sequence_is_added_if_the_folder_says_so():
    tokenizer = LlamaTokenizer.from_pretrained(str(TINY), add_bos_token=False, add_eos_token=True)
    assert tokenizer("two").input_ids == [*load_tokenizer(TINY)("two").input_ids[1:], tokenizer.eos_token_id]


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_broken_file_is_one_line_that_names_it(content, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(
        BTCChatError, match="tokenizer.model is not a SentencePiece model .*; download or save it again$"
    ):
        load_tokenizer(tmp_path)
