"""Features of a frozen vision tower, cached on disk per image (``--cache_vision_features``).

DIR/TOWER/about.json               tower, layers, preprocessing and precision that the features depend on
DIR/TOWER/ab/abcd....safetensors   the features of one image, named by the SHA-256 of its pixels
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from btcchat import __version__
from btcchat.files import atomic_write
from btcchat.model import BTCChatModel
from btcchat.processor import Sample

logger = logging.getLogger(__name__)


class FeatureCache:
    """Features (S, L, C) of images. about: everything else that they depend on; each value of it gets its own folder.

    Any number of processes may read and write the cache: a file gets its name only when it is complete.
    """

    def __init__(self, root: str | Path, about: dict[str, Any]) -> None:
        text = json.dumps(about, indent=1, sort_keys=True, default=str)
        self.folder = Path(root) / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._write(self.folder / "about.json", f"{text}\n".encode())

    @classmethod
    def of(cls, root: str | Path, model: BTCChatModel, computed: dict[str, Any]) -> "FeatureCache":
        """The cache for the tower and image processor of ``model``. computed: the precision the tower computes in."""
        tower, processor = model.vision_tower, model.image_processor
        about = {
            "tower": weights_hash(tower),
            "config": tower.config,
            "resolution": tower.resolution,
            "select_layer": model.config.mm_vision_select_layer,
            "select_feature": model.config.mm_vision_select_feature,
            "preprocessing": processor.to_config() | {"aspect_ratio": processor.aspect_ratio},
            "reading": model.processor.reading.record(),
            "computed": computed,
            "btcchat": __version__,
        }
        return cls(root, about)

    def key(self, frame: Tensor) -> str:
        """The key of the pixels that the tower gets, uint8 (3, H, W), whatever file or video they are from."""
        return hashlib.sha256(f"{tuple(frame.shape)} ".encode() + frame.numpy().tobytes()).hexdigest()

    def take(self, sample: Sample) -> Sample:
        """The sample with frames replaced by their features (``cached``) where the cache has them."""
        keys = [self.key(frame) for frame in sample["frames"]]
        known = [self.load(key) for key in keys]
        fresh = [number for number, features in enumerate(known) if features is None]
        here = [features for features in known if features is not None]  # each (S, L, C)
        wanted = [key if features is None else None for key, features in zip(keys, known, strict=True)]
        return {**sample, "frames": sample["frames"][fresh], "cached": (here, wanted)}

    def load(self, key: str) -> Tensor | None:
        """(S, L, C), or None if they must be computed."""
        path = self._path(key)
        try:
            return load_file(path)["features"]
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError) as error:  # e.g. after a power cut
            logger.warning("%s is damaged (%s); its features are computed again", path, error)
            return None

    def store(self, keys: list[str], features: Tensor) -> None:
        """Write features (U, S, L, C), one for each key. Raises BTCChatError if they cannot be written."""
        for key, feature in zip(keys, features.detach().cpu().contiguous(), strict=True):
            self._write(self._path(key), save({"features": feature}))

    def complete(
        self, fresh: list[Tensor] | None, cached: Tensor | None, keys: list[str | None], device: torch.device
    ) -> list[Tensor]:
        """Features of all frames, S x (F, L, C), from ``cached`` (H, S, L, C) and ``fresh`` ones, S x (U, L, C).

        The fresh ones are stored. keys: of the F frames in order, None for the cached ones.
        """
        if fresh is not None:
            self.store([key for key in keys if key is not None], torch.stack(fresh, dim=1))
        if cached is None:
            assert fresh is not None  # a frame is either fresh or cached
            return fresh
        depths = cached.to(device).unbind(1)
        if fresh is None:
            return list(depths)
        known = torch.tensor([key is None for key in keys], device=device)
        place = known.argsort(stable=True).argsort()  # of each frame, in the fresh ones followed by the cached ones
        return [torch.cat(pair)[place] for pair in zip(fresh, depths, strict=True)]

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _write(self, path: Path, data: bytes) -> None:
        way_out = "free some space, choose another folder, or leave the flag out"
        with atomic_write(path, name=f"--cache_vision_features: {path}", way_out=way_out) as part:
            part.write_bytes(data)


def weights_hash(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, names included."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
