"""ignore_merges in LLaMA 3's tokenizer.json: tokenizers before 0.19 ignores it and splits some words differently."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models

from btcchat.errors import BTCChatError


def check_merges(model: Mapping[str, Any], file: Path) -> None:
    """Raise BTCChatError if the ``model`` of a tokenizer.json sets ignore_merges and the library would ignore it."""
    if model.get("ignore_merges") and not hasattr(models.BPE, "ignore_merges"):
        raise BTCChatError(
            f"{file}: ignore_merges (LLaMA 3) needs tokenizers 0.19 or newer, but {tokenizers.__version__} is "
            "installed; install a newer transformers: pip install -U 'transformers<6'"
        )
