"""Find the folder of a model: a local folder, a hub id, or ``tiny`` (also None) for the packaged model."""

import functools
import logging
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from btcchat.errors import BTCChatError, wrong_type

logger = logging.getLogger(__name__)

PACKAGED = "tiny"
DEMONSTRATION = "the packaged model is a demonstration and knows drawn scenes only; for real images, give --model"
CHECKPOINT = ("*.json", "*.safetensors", "*tokenizer.model", "*.txt")  # the files of a checkpoint to download


def resolve(path: str | Path | None, patterns: Sequence[str] = CHECKPOINT) -> Path:
    """A checkpoint folder for a local path, a hub id (downloaded), or ``tiny`` or None (the packaged model).

    A folder named ``tiny`` in the current folder takes precedence. patterns: the files to download.
    """
    if path is None or (str(path) == PACKAGED and not Path(PACKAGED).is_dir()):
        packaged = Path(str(files("btcchat") / "assets" / "tiny"))
        if not packaged.is_dir():
            raise BTCChatError(f"the packaged tiny model is not at {packaged}; install btcchat again, or name a model")
        return packaged
    if not isinstance(path, str | Path):
        raise wrong_type("the path of a model", path, "a checkpoint folder or a hub id")
    try:
        local = Path(path).expanduser()
    except RuntimeError as error:  # ~nobody
        raise BTCChatError(f"no model at {path}: {error}") from None
    if str(path) == PACKAGED:
        _note_local_folder(local.resolve())
    try:
        if local.is_dir():
            return local
        if local.exists():
            raise BTCChatError(f"{path} is a file; a model is a checkpoint folder or a hub id")
    except OSError as error:  # e.g. a name that is too long
        raise BTCChatError(f"no model at {str(path)[:80]}: {error.strerror}") from None
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)):
        raise BTCChatError(
            f"no model at {path}: neither a folder here nor a hub id (organisation/name) nor tiny, the packaged model"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from requests import RequestException

    try:
        return Path(snapshot_download(str(path), allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, RequestException, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BTCChatError(f"no model at {path}: no such folder, and the download failed: {reason}") from None


@functools.cache  # warn once, however often the name is looked up
def _note_local_folder(folder: Path) -> None:
    logger.warning("the model 'tiny' is the local folder %s, not the packaged model", folder)
