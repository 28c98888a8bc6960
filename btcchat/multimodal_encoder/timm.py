"""Any plain ViT of timm (Wightman, github.com/huggingface/pytorch-image-models), SigLIP's among them."""

from pathlib import Path
from typing import Any

from torch import Tensor

from btcchat.errors import BTCChatError
from btcchat.multimodal_encoder.library import LibraryTower, import_library, known_model, square


class TimmTower(LibraryTower):
    """Config: ``model_name``; ``pretrained`` (true: timm's weights, a path: that file); ``image_size`` in pixels.

    Parameter names are timm's, after ``vit.``.
    """

    def build(self, config: dict[str, Any]) -> None:
        timm = import_library("timm", "timm")
        name, pretrained = config["model_name"], config.get("pretrained", False)
        known_model("timm", name.split(".")[0], timm.list_models())
        options: dict[str, Any] = {}
        if isinstance(pretrained, str):
            if not Path(pretrained).is_file():
                raise BTCChatError(f"timm model '{name}': no weights file at {pretrained}; give its path")
            options["pretrained_cfg_overlay"] = {"file": pretrained}
        self.vit: Any = timm.create_model(name, pretrained=bool(pretrained), num_classes=0, **options)
        if not (hasattr(self.vit, "blocks") and hasattr(getattr(self.vit, "patch_embed", None), "grid_size")):
            raise BTCChatError(
                f"timm model '{name}' is not a plain ViT; choose one, such as vit_base_patch16_siglip_384"
            )
        self.data_config = timm.data.resolve_model_data_config(self.vit)
        self.hidden_size = self.vit.num_features
        self.num_layers = len(self.vit.blocks)
        if config.get("image_size"):
            self.resize(config["image_size"])

    @property
    def resolution(self) -> int:
        return square("timm", self.config["model_name"], self.vit.patch_embed.img_size)

    @property
    def grid(self) -> int:
        return int(self.vit.patch_embed.grid_size[0])

    def intermediates(self, pixel_values: Tensor, blocks: list[int]) -> list[Tensor]:
        outputs: list[Tensor] = self.vit.forward_intermediates(
            pixel_values, indices=blocks, stop_early=True, intermediates_only=True, output_fmt="NLC"
        )
        return outputs

    def default_preprocessor_config(self) -> dict[str, Any]:
        """Mean, deviation and interpolation of timm's own data config, at the tower's resolution."""
        return self.preprocessor_config(*(self.data_config[key] for key in ("mean", "std", "interpolation")))

    def resize(self, resolution: int) -> None:
        """Set the input size in pixels, and resample the position embeddings as timm does."""
        if not hasattr(self.vit, "set_input_size"):
            raise BTCChatError(
                f"timm model '{self.config['model_name']}' has a fixed input size of {self.resolution} "
                "pixels; keep it, or choose another model"
            )
        self.vit.set_input_size(img_size=(resolution, resolution))
        self.config["image_size"] = resolution
