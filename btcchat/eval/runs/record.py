"""run.json: what determines the answers of an evaluation, how it was run, and where the data is."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from btcchat import __version__
from btcchat.checkpoint.describe import describe_checkpoint
from btcchat.checkpoint.folder import open_folder
from btcchat.checkpoint.hub import PACKAGED, resolve
from btcchat.checkpoint.load import pick_device, pick_dtype
from btcchat.data.mixture.hashes import checkpoint_hash
from btcchat.eval.runs.evaluate import SELECTION
from btcchat.eval.runs.samples import EvalSet
from btcchat.eval.runs.schema import Selection
from btcchat.files import read_json


def run_record(
    model: str,
    sets: Sequence[EvalSet],
    *,
    request: Mapping[str, Any],
    options: Mapping[str, Any],
    device: str = "auto",
    dtype: str = "auto",
    processes: int = 1,
) -> dict[str, Any]:
    """The content of run.json. A run can only be resumed with the same model, data and options.

    request: `samples.read_arguments`. options: include ``vision_tower`` and ``cc_head``, if given.
    """
    folder = resolve(model)
    vision_tower, cc_head = options.get("vision_tower"), options.get("cc_head")
    device = pick_device(device)
    picked = pick_dtype(dtype, device, open_folder(folder, vision_tower).llm_folder)
    packaged = model == PACKAGED and folder == resolve(None)
    parts, prompts = describe_checkpoint(
        model, vision_tower=vision_tower, encoder_options={"cc_head": cc_head} if cc_head else {}
    )
    path = f"{PACKAGED} (packaged)" if packaged else str(model)
    return {
        "model": {"path": path, "fingerprint": checkpoint_hash(folder), "parts": parts},
        "asked": request,
        "data": [{"set": s.name, "samples": len(s.samples), "sha256": s.fingerprint} for s in sets],
        "options": {**options, "device": device, "dtype": str(picked).removeprefix("torch.")},
        "prompts": prompts,
        "selected": read_json(folder / SELECTION, schema=Selection) if (folder / SELECTION).is_file() else None,
        "processes": processes,
        "versions": {"btcchat": __version__, **{name: version(name) for name in ("torch", "transformers")}},
    }
