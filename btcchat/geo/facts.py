"""Facts about a model that a run needs before it loads the weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from btcchat.compat.noise import quiet_import

if TYPE_CHECKING:
    from btcchat.checkpoint.config import BTCChatConfig


@dataclass(frozen=True)
class ModelFacts:
    """name: as the user gave it. fingerprint: a hash of its files. threshold: for its change maps. chosen_on: the data
    that gave the threshold. gsd: metres per pixel of its training data. None if the checkpoint does not state it.
    """

    name: str
    fingerprint: str | None = None
    threshold: float | None = None
    chosen_on: str | None = None
    gsd: float | None = None

    def record(self) -> dict[str, Any]:
        return {"path": self.name, "fingerprint": self.fingerprint, "training_gsd": self.gsd}


def model_facts(path: str | Path | None, **options: Any) -> ModelFacts:
    """The facts of a checkpoint folder or a hub id; None is the packaged model. options: for `open_checkpoint`."""
    with quiet_import():  # the first import of transformers in `btcchat.geo.scenes`
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
