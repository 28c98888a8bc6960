"""Check for the packages that a checkpoint needs, before torch is imported and any model is built."""

import os
from pathlib import Path

from btcchat.checkpoint.config import read_config
from btcchat.checkpoint.schema import RootConfig
from btcchat.compat.extras import require


def check_extras(path: str | Path | None) -> None:
    """Raise BTCChatError if the folder ``path`` holds an adapter and peft is not installed. Hub ids are not checked."""
    if not isinstance(path, str | Path):  # the packaged model; `resolve` says what is wrong with other values
        return
    file = Path(os.path.expanduser(path), "config.json")
    # os.path treats a path that cannot be looked up as a missing file; `resolve` says what is wrong with it.
    if os.path.isfile(file) and read_config(file, RootConfig).get("base_model") is not None:
        require("peft", f"the adapter {path}")
