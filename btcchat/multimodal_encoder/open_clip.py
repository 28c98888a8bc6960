"""The vision half of an open_clip model (github.com/mlfoundations/open_clip): RemoteCLIP, GeoRSCLIP, OpenAI's CLIP."""

from typing import Any

from torch import Tensor, nn

from btcchat.errors import BTCChatError
from btcchat.multimodal_encoder.library import LibraryTower, import_library, known_model, square

# Patterns of published keys that the tower does not use: the text half.
UNUSED_KEYS = [
    r"(transformer|token_embedding|ln_final|text)\..*",
    r"positional_embedding|text_projection|logit_scale|logit_bias",
]


class OpenClipTower(LibraryTower):
    """Config: ``model_name`` (ViT-B-32, ViT-L-14...); ``pretrained`` (a tag of open_clip's, or the path of a weights
    file such as RemoteCLIP-ViT-B-32.pt); ``image_size`` in pixels.

    Parameter names are open_clip's, ``visual.*``.
    """

    def build(self, config: dict[str, Any]) -> None:
        open_clip = import_library("open_clip", "open_clip_torch")
        name, pretrained = config["model_name"], config.get("pretrained")
        known_model("open_clip", name, open_clip.list_models())
        if pretrained is True:
            raise BTCChatError(
                f"open_clip model '{name}': pretrained is True, expected a tag such as 'laion2b_s34b_b79k', or a file"
            )
        self.visual: Any = open_clip.create_model(
            name,
            pretrained=pretrained or None,
            load_weights=bool(pretrained),
            require_pretrained=bool(pretrained),
            pretrained_text=False,
            weights_only=True,
            force_image_size=config.get("image_size"),
            # create_model ends in model.to(device), which fails where parameters are being made on meta.
            device=nn.Linear(1, 1, bias=False).weight.device,
        ).visual
        self.statistics = open_clip.get_model_preprocess_cfg(self)
        trunk: Any = self.trunk
        if hasattr(trunk, "blocks"):
            self.hidden_size, self.num_layers = trunk.num_features, len(trunk.blocks)
        elif isinstance(self.visual, open_clip.transformer.VisionTransformer):
            self.hidden_size, self.num_layers = self.visual.conv1.out_channels, len(self.visual.transformer.resblocks)
        else:
            raise BTCChatError(f"open_clip model '{name}' is not a plain ViT; choose one, such as ViT-B-32 or ViT-L-14")

    @property
    def trunk(self) -> nn.Module | None:
        """The ViT of timm inside some open_clip models (SigLIP's); None in others."""
        return getattr(self.visual, "trunk", None)

    @property
    def vit(self) -> nn.Module:
        """The module whose blocks run: timm's ViT if there is one, else open_clip's own."""
        # open_clip's wrapper of a timm ViT only logs that the ViT cannot checkpoint; the ViT itself raises.
        return self.visual if self.trunk is None else self.trunk

    @property
    def resolution(self) -> int:
        return square("open_clip", self.config["model_name"], self.visual.image_size)

    @property
    def grid(self) -> int:
        trunk: Any = self.trunk
        return int((self.visual if trunk is None else trunk.patch_embed).grid_size[0])

    def intermediates(self, pixel_values: Tensor, blocks: list[int]) -> list[Tensor]:
        outputs: list[Tensor] = self.visual.forward_intermediates(
            pixel_values, indices=blocks, stop_early=True, intermediates_only=True, output_fmt="NLC"
        )["image_intermediates"]
        return outputs

    def default_preprocessor_config(self) -> dict[str, Any]:
        """Mean, deviation and interpolation of open_clip's own preprocessing, at the tower's resolution."""
        statistics = {"interpolation": "bicubic"} | self.statistics
        return self.preprocessor_config(*(statistics[key] for key in ("mean", "std", "interpolation")))

    def resize(self, resolution: int) -> None:
        """Set the input size in pixels, and resample the position embeddings as open_clip does."""
        if self.trunk is None:
            self._resize_visual(resolution)
        else:
            self.visual.set_input_size((resolution, resolution))
        self.config["image_size"] = resolution

    def _resize_visual(self, resolution: int) -> None:
        from open_clip.model import resize_pos_embed  # works on a state dict, for a model of the new grid

        visual, position = self.visual, self.visual.positional_embedding
        grid = resolution // visual.conv1.kernel_size[0]
        visual.image_size, visual.grid_size = (resolution, resolution), (grid, grid)
        state = {"visual.positional_embedding": position.detach()}
        resize_pos_embed(state, self)
        visual.positional_embedding = nn.Parameter(state["visual.positional_embedding"], position.requires_grad)
