"""Load a language model's tokenizer: SentencePiece (LLaMA), byte-level BPE (Qwen2), or any tokenizer.json."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from btcchat.checkpoint.config import AGAIN, read_config
from btcchat.checkpoint.schema import TokenizerConfig
from btcchat.compat.merges import check_merges
from btcchat.compat.versions import warn_untested
from btcchat.errors import BTCChatError
from btcchat.files import read_json
from btcchat.language_model.llama_tokenizer import LlamaTokenizer
from btcchat.limits.regular import regular

# How a text is split into words before BPE: contractions, letters, single digits, punctuation, line ends, spaces.
# The pattern of the published tokenizer.json.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


TOKENIZER_FILES = (
    "tokenizer.model", "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json",
    "special_tokens_map.json",
)  # fmt: skip
FILES = ("vocab_file", "merges_file", "tokenizer_file")  # of tokenizer_config.json
LLAMA = ("LlamaTokenizer", "LlamaTokenizerFast")
QWEN2 = ("Qwen2Tokenizer", "Qwen2TokenizerFast")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of an llm/ folder: tokenizer.model as published with LLaMA, else tokenizer.json, else vocab.json.

    A tokenizer.json is read as it is, whichever class tokenizer_config.json names. Raises BTCChatError if none of these
    files exists, or if one cannot be read.
    """
    warn_untested()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # otherwise the library warns when a process is forked
    names = ("tokenizer.model", "tokenizer.json", "vocab.json")
    if not any((folder / name).exists() for name in names):
        raise BTCChatError(f"{folder} has no tokenizer: expected {', '.join(names[:2])} or vocab.json with merges.txt")
    file = folder / "tokenizer_config.json"
    settings = read_config(file, TokenizerConfig) if file.exists() else {}
    try:
        for file in filter(Path.exists, (folder / name for name in TOKENIZER_FILES)):
            regular(file)
        tokenizer = _load(folder, settings)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
        tokenizer("A text.")  # some errors appear only now
    except BTCChatError:
        raise
    except Exception as error:  # noqa: BLE001 - the libraries raise Exception itself, and protobuf's own
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        raise BTCChatError(f"{folder} has no readable tokenizer ({fault}); {AGAIN}") from None
    return tokenizer


def _load(folder: Path, settings: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    name = settings.get("tokenizer_class")
    # transformers would follow paths in the settings, which are of their author's machine; use the file in this folder.
    options: dict[str, Any] = {
        key: str(folder / Path(settings[key]).name) for key in FILES if isinstance(settings.get(key), str)
    }
    # Set explicitly, because transformers' default was True before release 5.
    options["clean_up_tokenization_spaces"] = bool(settings.get("clean_up_tokenization_spaces", False))
    tokenizer: PreTrainedTokenizerBase
    if (folder / "tokenizer.model").exists() and name in (None, *LLAMA):
        tokenizer = LlamaTokenizer.from_pretrained(str(folder), **options)
    elif (folder / "tokenizer.json").exists() or name in QWEN2:
        tokenizer_class = Qwen2TokenizerFast if name in QWEN2 else PreTrainedTokenizerFast
        tokenizer = tokenizer_class.from_pretrained(str(folder), tokenizer_object=_read(folder), **options)
    else:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), use_fast=False, **options)
    return tokenizer


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int) -> None:
    """Raise BTCChatError if the language model has too few embeddings, ``rows``, for the tokenizer.

    Added tokens are not counted: published folders have some that none of their texts use.
    """
    if tokenizer.vocab_size > rows:
        raise BTCChatError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, but the model has {rows} embeddings (vocab_size); "
            "use the tokenizer that the model was trained with"
        )


class Qwen2TokenizerFast(PreTrainedTokenizerFast):
    """Byte-level BPE, under its published name."""

    vocab_files_names = {"tokenizer_file": "tokenizer.json", "vocab_file": "vocab.json", "merges_file": "merges.txt"}
    slow_tokenizer_class = None

    def __init__(self, tokenizer_object: Tokenizer, **options: Any):
        for name in self.vocab_files_names:
            options.pop(name, None)
        special = dict.fromkeys(("unk_token", "bos_token"))  # None, unless the folder names one
        ends = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
        super().__init__(tokenizer_object=tokenizer_object, **{**special, **ends, **options})

    @classmethod
    def convert_to_native_format(cls, **options: Any) -> dict[str, Any]:
        """Do nothing: transformers 5 would read the files a second time before ``__init__``."""
        return options

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write vocab.json and merges.txt, which the published code reads."""
        return tuple(self.backend_tokenizer.model.save(save_directory, filename_prefix))


def byte_level_bpe(model: models.BPE) -> Tokenizer:
    """A vocabulary with the published steps before and after it."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _read(folder: Path) -> Tokenizer:
    """Read tokenizer.json, else vocab.json with merges.txt. Raises BTCChatError if they are broken."""
    file, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    try:
        if file.exists():
            content = with_line_merges(file)
            check_merges(content["model"], file)
            return Tokenizer.from_str(json.dumps(content))
        return byte_level_bpe(models.BPE.from_file(str(vocabulary), str(merges)))
    except BTCChatError:
        raise
    except Exception as error:  # noqa: BLE001 - the tokenizers library raises nothing more specific
        what = file if file.exists() else f"{vocabulary} with {merges}"
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BTCChatError(f"{what} is not a tokenizer ({reason}); download or save it again") from None


def with_line_merges(file: Path) -> dict[str, Any]:
    """A tokenizer.json with merges as "a b", which tokenizers before 0.20 can read; later ones write ["a", "b"]."""
    content: dict[str, Any] = read_json(file, "model", way_out="download or save the checkpoint again")
    model = content["model"]
    if isinstance(model, dict) and isinstance(model.get("merges"), list):
        model["merges"] = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    return content
