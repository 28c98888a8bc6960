"""A copy of a model whose config.json has the ``change_threshold`` that a run of ``btcchat eval --masks`` chose."""

import shutil
from pathlib import Path
from typing import cast

from btcchat.checkpoint.config import PARTS
from btcchat.checkpoint.folder import leaves_out_tower, open_folder
from btcchat.checkpoint.hub import resolve
from btcchat.checkpoint.schema import ChangeThreshold
from btcchat.data.mixture.hashes import checkpoint_hash
from btcchat.errors import BTCChatError
from btcchat.eval.maps.masks import Calibration, ThresholdScores
from btcchat.eval.runs.evaluate import SELECTION
from btcchat.eval.runs.finished import read_run
from btcchat.files import check_new_folder, new_folder, read_json, write_json


def export_calibrated(run: str | Path, model: str | Path, out: str | Path) -> ChangeThreshold:
    """Write ``model`` to the new folder ``out`` with the threshold that ``run`` chose, and return it.

    Weights are copied as they are. Raises BTCChatError where the run is of another model, or chose no threshold, as it
    had no masks or was given one.
    """
    check_new_folder(Path(out))
    folder = resolve(model)
    if leaves_out_tower(folder):
        raise BTCChatError(f"{model} is a LLaVA-NeXT folder; import it first: btcchat import llava-next {model} OUT")
    open_folder(folder)
    threshold = _chosen(Path(run), folder, str(model))
    with new_folder(Path(out)) as temporary:
        for part in PARTS:
            shutil.copytree(folder / part, temporary / part)
        if (folder / SELECTION).is_file():
            shutil.copy(folder / SELECTION, temporary)
        config = read_json(folder / "config.json") | {"change_threshold": threshold}
        write_json(temporary / "config.json", config, sort_keys=True)
    return threshold


def _chosen(path: Path, folder: Path, model: str) -> ChangeThreshold:
    run = read_run(path)
    if run.model["fingerprint"] != checkpoint_hash(folder):
        raise BTCChatError(f"{path} is a run of {run.model['path']}, whose files are not those of {model}")
    again = f"run btcchat eval {model} SET:val --masks, where every pair of SET has a mask"
    scored = [cast(ThresholdScores, found) for one in run.sets if (found := one.scores.get("change_map"))]
    if not scored:
        raise BTCChatError(f"{path} has not compared change maps with masks; {again}")
    chosen = [found["calibration"] for found in scored if "calibration" in found]
    if not chosen:
        raise BTCChatError(
            f"{path} did not choose its threshold but was given --mask-threshold; {again}, without that flag"
        )
    if len(names := dict.fromkeys(one["set"] for one in chosen)) > 1:
        raise BTCChatError(f"{path} chose a threshold on each of {', '.join(names)}; {again}")
    return _threshold(path, chosen[0])


def _threshold(path: Path, chosen: Calibration) -> ChangeThreshold:
    if not chosen["value"]:
        raise BTCChatError(
            f"{path}: no threshold is better than calling every pixel changed on {chosen['set']}, so the maps of this "
            "model do not show where it changed"
        )
    words = f"{chosen['set']}, {chosen['maps']} change maps, IoU {chosen['IoU']:.1f} %"
    return {"value": round(chosen["value"], 4), "chosen_on": words}
