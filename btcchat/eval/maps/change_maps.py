"""``btcchat eval --change-maps`` draws the change map of every pair; ``--masks`` also compares it with the pair's mask.

RUN/change_maps/ID.png              for the evaluated pairs
RUN/threshold/SET/change_maps/...   for pairs that are only used to choose the threshold
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from btcchat.change_encoder.change_map import at_size, save_map
from btcchat.console.progress import Progress
from btcchat.data.records import CODES
from btcchat.errors import BTCChatError
from btcchat.eval.maps.masks import LEVELS, ThresholdScores, calibrate, count, level_of, mask_scores, mask_source
from btcchat.eval.runs.folder import map_path
from btcchat.eval.runs.ranks import Ranks
from btcchat.eval.runs.samples import EvalSet, Sample, other_split, whole_splits
from btcchat.eval.runs.sweep import Seen, batches, sweep, unfinished
from btcchat.model import BTCChatModel


class ChangeMaps:
    """The pairs of ``sets``, and those of the val splits that choose a threshold (none if a threshold is given).

    where: ``data_root`` and ``folder`` of `read_sets`. masks: score the maps as well as drawing them. Raises
    BTCChatError for sets without pairs and, if maps are scored, for pairs without masks and for a test split without
    a val split to choose the threshold on.
    """

    def __init__(
        self, sets: Sequence[EvalSet], threshold: float | None, where: Mapping[str, Any], *, masks: bool = True
    ):
        self.threshold, self.masks = threshold, masks
        self.pairs = {eval_set.name: pairs for eval_set in sets if (pairs := _pairs(eval_set))}
        if not self.pairs:
            names = ", ".join(eval_set.name for eval_set in sets)
            raise BTCChatError(f"change maps need pairs, and {names} has no pairs")
        self.chosen_on: dict[str, EvalSet] = {}  # if it differs from the scored split
        self._evaluated = {eval_set.content for eval_set in sets}
        self._counted: dict[str, np.ndarray] = {}  # for each set, by its content
        if not masks:
            return
        _check_masks([sample for samples in self.pairs.values() for sample in samples])
        splits = whole_splits(sets)
        for eval_set in sets if threshold is None else ():
            if eval_set.name in self.pairs and (val := _val(eval_set, where, splits)):
                self.chosen_on[eval_set.name] = val
        _check_masks([sample for val in self._only_chosen_on() for sample in _pairs(val)])

    def drawing(self, folder: Path) -> "Drawing":
        """A consumer that draws the maps of the evaluated pairs that are not in ``folder`` yet."""
        return Drawing(folder, {sample.id for samples in self.pairs.values() for sample in samples})

    def draw_threshold_pairs(
        self,
        load_model: Callable[[], BTCChatModel],
        folder: Path,
        ranks: Ranks,
        batch_size: int,
        progress: Progress,
    ) -> None:
        """Draw the maps of pairs used only to choose the threshold; every process draws its share."""
        for val in self._only_chosen_on():
            drawing = Drawing(_beside(folder, val), {sample.id for sample in _pairs(val)})
            todo = ranks.from_first(unfinished(batches(_pairs(val), batch_size), [drawing]) if ranks.first else None)
            if share := todo[ranks.number :: ranks.world]:
                progress.restart(sum(map(len, share)), f"change maps of {val.name}")
                for samples in sweep(load_model(), share, [drawing]):
                    progress.update(len(samples))
            ranks.gather(None)  # wait until all have drawn

    def scores(self, eval_set: EvalSet, folder: Path) -> ThresholdScores | None:
        """The scores of a set; None if it has no pairs, or if the maps are only drawn."""
        name = eval_set.name
        if name not in self.pairs or not self.masks:
            return None
        counts = self._counts(eval_set, folder)
        if self.threshold is not None:
            level = level_of(self.threshold)
            return {"threshold": level / (LEVELS - 1), "chosen": "given", **mask_scores(counts, level)}
        of = self.chosen_on.get(name, eval_set)
        label = of.name if of.sampling == "all" else f"{of.name}@{of.sampling}"
        found = calibrate(self._counts(of, folder), label)
        where = "this split" if of is eval_set else f"{label} ({found['maps']} pairs)"
        return {
            "threshold": found["value"],
            "chosen": f"chosen on {where} by IoU",
            "calibration": found,
            **mask_scores(counts, level_of(found["value"])),
        }

    def _only_chosen_on(self) -> list[EvalSet]:
        """The sets used only to choose a threshold, each once."""
        by_content = {val.content: val for val in self.chosen_on.values() if val.content not in self._evaluated}
        return list(by_content.values())

    def _counts(self, eval_set: EvalSet, folder: Path) -> np.ndarray:
        """Counts of its pairs, (N, 2, 256); each map and mask is read once."""
        content = eval_set.content
        if content not in self._counted:
            maps = folder if content in self._evaluated else _beside(folder, eval_set)
            self._counted[content] = np.stack([count(sample, map_path(maps, sample.id)) for sample in _pairs(eval_set)])
        return self._counted[content]


def _pairs(eval_set: EvalSet) -> list[Sample]:
    pair = CODES.index("pair")
    return [sample for sample in eval_set.samples if sample.records.modality_codes[sample.index] == pair]


def _val(eval_set: EvalSet, where: Mapping[str, Any], splits: dict[str, EvalSet]) -> EvalSet | None:
    """The val split to choose a set's threshold on; None for a val split, or if the set has only one split."""
    if eval_set.name.partition(":")[2] == "val":
        return None
    if val := other_split(eval_set, "val", where, splits):
        return val
    if eval_set.is_test or "val" in eval_set.description.get("splits", ()):
        raise BTCChatError(
            f"{eval_set.name} has no val split to choose a threshold on; set one with --mask_threshold T"
        )
    return None


def _check_masks(samples: Sequence[Sample]) -> None:
    faults = []
    for sample in samples:
        try:
            mask_source(sample.record)
        except BTCChatError as error:
            faults.append(str(error))
    if faults:
        more = f" (and {len(faults) - 1} more pair{'s' * (len(faults) > 2)})" if len(faults) > 1 else ""
        raise BTCChatError(faults[0] + more)


def _beside(folder: Path, eval_set: EvalSet) -> Path:
    return folder / "threshold" / f"{eval_set.name.replace(':', '-')}-{eval_set.fingerprint[:12]}"


class Drawing:
    """Draws the change maps of the pairs with these ids that are not in ``folder`` yet."""

    def __init__(self, folder: Path, ids: Collection[str]):
        self.folder = folder
        self.missing = {name for name in ids if not map_path(folder, name).is_file()}

    def wants(self, sample: Sample) -> bool:
        return sample.id in self.missing

    def take(self, model: BTCChatModel, seen: Seen) -> None:
        numbers = [number for number, sample in enumerate(seen.samples) if sample.id in self.missing]
        padded = model.image_processor.aspect_ratio == "pad"
        distances = model.distances(seen.depths_of(numbers)).cpu()  # (B, g, g), all at once
        map_path(self.folder, "").parent.mkdir(parents=True, exist_ok=True)
        for number, distance in zip(numbers, distances, strict=True):
            name = seen.samples[number].id
            after = seen.images[number][1]
            size = after.info.get("full_size", after.size)  # the mask of this pair is read at full size
            save_map(at_size(distance, *size, padded=padded), map_path(self.folder, name))
            self.missing.discard(name)
