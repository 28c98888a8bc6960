"""What config.json tells `btcchat scenes` about a trained model: ``training_gsd`` and ``change_threshold``."""

import logging
from collections.abc import Sequence

import numpy as np

from btcchat.checkpoint.config import BTCChatConfig
from btcchat.data.mixture import Mixture
from btcchat.data.mixture.stream import Chunks, Stream, StreamMixture
from btcchat.data.records import CODES
from btcchat.train.freeze import ModelPart

logger = logging.getLogger(__name__)
TEXT = CODES.index("text")
DRAW_MAPS = ("vision_tower", "change_encoder")  # the parts that a change map comes from


def note_scene_facts(config: BTCChatConfig, parts: Sequence[ModelPart], dataset: Mixture | StreamMixture) -> None:
    """Set ``training_gsd`` to what all data sets with images state, and drop the threshold of maps that are trained.

    Without a gsd that all of them state there is no ``training_gsd``: one number would be wrong for some of the data. A
    mixture of text alone keeps the checkpoint's.
    """
    if stated := stated_gsd(dataset):
        found, before = set(stated.values()), config.training_gsd
        config.training_gsd = found.pop() if len(found) == 1 else None
        changed = f" (the checkpoint had {before:g} m)" if before not in (None, config.training_gsd) else ""
        logger.info("training_gsd in config.json: %s%s", _in_words(stated, config.training_gsd), changed)
    trained = [part.name for part in parts if part.name in DRAW_MAPS and part.trainable and part.num_parameters]
    if trained and config.change_threshold is not None:
        logger.info(
            "change_threshold is left out of config.json: it was chosen on %s, before this training of %s; choose a "
            "new one with btcchat eval --masks and btcchat export --change-threshold",
            *(config.change_threshold["chosen_on"], " and ".join(trained)),
        )
        config.change_threshold = None


def stated_gsd(dataset: Mixture | StreamMixture) -> dict[str, float | None]:
    """Each data set that shows images -> metres of a pixel, None where its description does not say."""
    members = [one.selection if isinstance(one, Chunks) else one for one in dataset.sets]
    return {
        member.term.name: member.term.description.get("gsd")
        for member in members
        if isinstance(member, Stream) or (member.of_rows(np.asarray(member.records.modality_codes)) != TEXT).any()
    }


def _in_words(stated: dict[str, float | None], gsd: float | None) -> str:
    if gsd is not None:
        return f"{gsd:g} m"
    if silent := [name for name, value in stated.items() if value is None]:
        return f"left out, as no gsd is stated for {', '.join(silent[:3])}{', ...' * (len(silent) > 3)}"
    values = [value for value in stated.values() if value is not None]
    return f"left out, as the data sets have {min(values):g} to {max(values):g} m"
