"""What a run of scenes has to know of its model before its weights are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from btcchat.checkpoint.config import BTCChatConfig


@dataclass(frozen=True)
class ModelFacts:
    """name: as the user says it. fingerprint: of its files. threshold: of its change maps, and what it was chosen on.
    gsd: metres of a pixel in what it was trained on. What the checkpoint does not say is None.
    """

    name: str
    fingerprint: str | None = None
    threshold: float | None = None
    chosen_on: str | None = None
    gsd: float | None = None

    def record(self) -> dict[str, Any]:
        return {"path": self.name, "fingerprint": self.fingerprint, "training_gsd": self.gsd}


def model_facts(path: str | Path | None, **options: Any) -> ModelFacts:
    """Of a checkpoint folder, a hub id, or (None) the packaged model. options: of `folder.open_checkpoint`."""
    from btcchat.checkpoint.folder import open_checkpoint
    from btcchat.checkpoint.hub import PACKAGED, resolve
    from btcchat.data.mixture.hashes import checkpoint_hash

    config = open_checkpoint(path, **options).config
    return facts_of(config, PACKAGED if path is None else str(path), checkpoint_hash(resolve(path)))


def facts_of(config: "BTCChatConfig", name: str, fingerprint: str | None) -> ModelFacts:
    threshold = config.change_threshold
    return ModelFacts(
        name,
        fingerprint,
        threshold["value"] if threshold else None,
        threshold["chosen_on"] if threshold else None,
        config.training_gsd,
    )
