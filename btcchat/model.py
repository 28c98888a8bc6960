"""The network: frames -> vision tower -> change encoder -> projector -> merge with the prompt -> language model.

api.py adds the user's methods: loading, saving, asking.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from btcchat.change_encoder.distance import last_depth_distance
from btcchat.change_encoder.protocol import ChangeEncoderModule, MeasuresDistance
from btcchat.checkpoint.adapter import Base
from btcchat.checkpoint.config import BTCChatConfig
from btcchat.compat.decoding import checkpoint_activations, recomputes
from btcchat.errors import BTCChatError
from btcchat.layers.branches import run_branches
from btcchat.layers.loss import mean_loss
from btcchat.merge import LENGTH_MULTIPLE, Merged, merge
from btcchat.multimodal_encoder.preprocess import ImageProcessor
from btcchat.multimodal_encoder.protocol import VisionTowerModule
from btcchat.multimodal_projector.protocol import ProjectorModule
from btcchat.processor import Processor
from btcchat.prompt.token_layout import TokenLayout


@dataclass
class Output(ModelOutput):  # DeepSpeed finds the tensors in this class
    """``loss`` if labels were given, else ``logits`` (B, N', vocabulary)."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class Visible(NamedTuple):
    """The features of a batch's frames that the language model sees, (R, D), all segments in prompt order.

    unused: features that belong to no segment but must be part of the graph (see train.encoder).
    loss: added to the loss of the text.
    """

    features: Tensor | None
    lengths: list[int]  # rows of each segment; R in total
    unused: Tensor | None = None
    loss: Tensor | None = None


class Encoder(Protocol):
    """A replacement for `BTCChatModel.encode`: in training (train.encoder), or for frames that were seen before."""

    def __call__(
        self,
        model: "BTCChatModel",
        frames: Tensor | None,
        modalities: Sequence[str],
        frame_counts: Sequence[int],
    ) -> Visible: ...


@dataclass(frozen=True)
class SeenBefore:
    """An `Encoder` that skips the vision tower. depths: the result of `BTCChatModel.see`, S x (F, L, C)."""

    depths: Sequence[Tensor]

    def __call__(
        self, model: "BTCChatModel", frames: Tensor | None, modalities: Sequence[str], frame_counts: Sequence[int]
    ) -> Visible:
        return Visible(*model.segments(self.depths, modalities, frame_counts))


class BTCChatModel(nn.Module):
    """The parts joined, and the processor that reads records for them."""

    vision_tower: VisionTowerModule
    change_encoder: ChangeEncoderModule
    mm_projector: ProjectorModule
    llm: PreTrainedModel

    def __init__(
        self,
        *,
        vision_tower: VisionTowerModule,
        change_encoder: ChangeEncoderModule,
        mm_projector: ProjectorModule,
        llm: PreTrainedModel,
        processor: Processor,
    ) -> None:
        super().__init__()
        self.vision_tower = vision_tower
        self.change_encoder = change_encoder
        self.mm_projector = mm_projector
        self.llm = llm
        self.processor = processor
        self.label_smoothing = 0.0  # of the loss, see mean_loss
        self.base: Base | None = None  # of the language model's adapter, if it has one

    @property
    def config(self) -> BTCChatConfig:
        return self.processor.config

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.processor.tokenizer

    @property
    def image_processor(self) -> ImageProcessor:
        return self.processor.image_processor

    @property
    def layout(self) -> TokenLayout:
        return self.processor.layout

    @property
    def device(self) -> torch.device:
        device: torch.device = self.llm.get_input_embeddings().weight.device
        return device

    # -- from frames to features -----------------------------------------------------------------------------------

    def pixel_values(self, frames: Tensor) -> Tensor:
        """uint8 frames (F, 3, H, W) -> the tower's input, normalised on the device; floating point is not changed."""
        frames = frames.to(self.device, non_blocking=True)
        return frames if frames.is_floating_point() else self.image_processor.normalise(frames)

    def see(self, frames: Tensor) -> list[Tensor]:
        """Frames (F, 3, H, W) -> the vision tower's features S x (F, L, C)."""
        return self.vision_tower(self.pixel_values(frames))

    def encode(
        self, frames: Tensor, modalities: Sequence[str], frame_counts: Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        """Frames of a batch (sum of frame_counts, 3, H, W) -> features (R, D) of its segments in prompt order.

        Also returns their lengths, R in total. One vision forward, one change-encoder forward for all pairs, one
        projector forward for all segments.
        """
        return self.segments(self.see(frames), modalities, frame_counts)

    def segments(
        self, depths: Sequence[Tensor], modalities: Sequence[str], frame_counts: Sequence[int]
    ) -> tuple[Tensor, list[int]]:
        """Like :meth:`encode`, but from the vision tower's features of the frames, S x (F, L, C)."""
        plan = _Plan(self.layout, modalities, frame_counts)
        groups = []
        if plan.frames:
            index = torch.tensor(plan.frames).to(depths[-1].device, non_blocking=True)
            groups.append(depths[-1][index])  # (frames without change tokens, L, C)
        if plan.pairs:
            index = torch.tensor(plan.pairs).to(depths[-1].device, non_blocking=True)  # (P, 2)
            pairs = torch.stack([depth[index] for depth in depths], dim=2)  # (P, 2, S, L, C)
            groups.append(self.change_encoder(pairs).flatten(0, 1))  # (P*V, L', C)
        if len({group.shape[1] for group in groups}) == 1:
            groups = [torch.cat(groups)]
        rows = torch.cat([self.mm_projector(group).flatten(0, 1) for group in groups])  # (R, D), group by group
        if len(rows) != sum(plan.lengths):
            raise BTCChatError(
                f"the parts return {len(rows)} rows of features, but their num_tokens say {sum(plan.lengths)}; correct "
                "num_tokens or segments of the change encoder or the projector"
            )
        if not plan.in_order:
            rows = rows[plan.rows().to(rows.device, non_blocking=True)]
        return rows, plan.lengths

    def distances(self, depths: Sequence[Tensor]) -> Tensor:
        """The distance between the dates of each pair at each patch: S x (2 B, L, C) -> (B, g, g), about 0..1.

        It is the change encoder's own distance or, if it has none, the cosine distance of the tower's features.
        """
        features = torch.stack(list(depths), dim=1).unflatten(0, (-1, 2))  # (B, 2, S, L, C)
        if isinstance(self.change_encoder, MeasuresDistance):
            return self.change_encoder.distance(features)
        return last_depth_distance(features)

    # -- from a batch to the language model -------------------------------------------------------------------------

    def embed(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        frames: Tensor | None = None,
        modalities: Sequence[str] = (),
        frame_counts: Sequence[int] = (),
        labels: Tensor | None = None,
        *,
        branches: Tensor | None = None,
        pixel_values: Tensor | None = None,
        encoder: Encoder | None = None,
    ) -> Merged:
        """A batch of `Processor.collate` -> the language model's input.

        branches: of independent questions. pixel_values: floating-point frames instead of uint8 ones. encoder:
        replaces :meth:`encode`.
        """
        frames = pixel_values if frames is None else frames
        visible = Visible(None, [])
        if encoder is not None:
            visible = encoder(self, frames, modalities, frame_counts)
        elif frames is not None:
            visible = Visible(*self.encode(frames, modalities, frame_counts))
        merged = merge(
            self.llm.get_input_embeddings(),
            input_ids,
            attention_mask,
            visible.features,
            visible.lengths,
            labels=labels,
            branches=branches,
            multiple=LENGTH_MULTIPLE if self.training and labels is not None else 1,
        )
        merged = merged._replace(loss=visible.loss)
        if visible.unused is None:
            return merged
        return merged._replace(inputs_embeds=merged.inputs_embeds + 0.0 * visible.unused.sum())

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        frames: Tensor | None = None,
        modalities: Sequence[str] = (),
        frame_counts: Sequence[int] = (),
        labels: Tensor | None = None,
        *,
        branches: Tensor | None = None,
        pixel_values: Tensor | None = None,
        encoder: Encoder | None = None,
    ) -> Output:
        """The loss (mean over all supervised tokens of the batch, plus the encoder's own) or, without labels, logits.

        See :meth:`embed`.
        """
        merged = self.embed(
            input_ids,
            attention_mask,
            frames,
            modalities,
            frame_counts,
            labels,
            branches=branches,
            pixel_values=pixel_values,
            encoder=encoder,
        )
        decoder = self.llm.get_decoder()
        if merged.branches is not None:
            hidden = run_branches(decoder, merged.inputs_embeds, merged.branches)
        else:  # no mask or positions: no token attends to padding, which is on the right, and both would need a wait
            hidden = decoder(inputs_embeds=merged.inputs_embeds, use_cache=False)[0]  # (B, N', D)
        head = self.llm.get_output_embeddings()
        if merged.labels is None or merged.learned is None:
            return Output(logits=head(hidden))
        if not len(merged.learned):
            return Output(loss=head(hidden[:, :1]).sum() * 0.0)
        before = hidden.flatten(0, 1)[merged.learned - 1]  # a token is predicted from the hidden state before it
        loss = mean_loss(head, before, merged.labels.flatten()[merged.learned], self.label_smoothing)
        return Output(loss=loss if merged.loss is None else loss + merged.loss)

    # -- in training ------------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> "BTCChatModel":
        """As in torch, but a part without trained parameters stays in ``eval()`` (BatchNorm, dropout)."""
        super().train(mode)
        for part in (self.vision_tower, self.change_encoder, self.mm_projector, self.llm):
            if mode and not any(p.requires_grad for p in part.parameters()):
                part.eval()
        if mode and recomputes(self.llm):
            # Recompute a frozen one too: transformers checks the decoder, from 4.53 each block. Modules inside the
            # blocks, including dropout, stay in eval().
            decoder: Any = self.llm.get_decoder()
            for module in (decoder, *decoder.layers):
                module.training = True
        return self

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, every_n_layers: int = 1
    ) -> None:
        """Keep only the inputs of each block of tower and language model, and recompute the rest in the backward pass.

        The options are those of ``torch.utils.checkpoint.checkpoint``. every_n_layers: of the language model, if
        transformers supports it (5.24).
        """
        options = {"use_reentrant": False} | (gradient_checkpointing_kwargs or {})
        self.vision_tower.gradient_checkpointing_enable()
        checkpoint_activations(self.llm, options, every_n_layers)
        if options["use_reentrant"]:  # or a block whose input needs no gradient, as with LoRA, would get none either
            self.llm.enable_input_require_grads()


class _Plan:
    """Which frames are used directly, which form pairs, and where the rows of each segment are."""

    def __init__(self, layout: TokenLayout, modalities: Sequence[str], frame_counts: Sequence[int]) -> None:
        self.frames: list[int] = []  # indices into the batch's frames
        self.pairs: list[list[int]] = []  # [before, after] indices
        self.lengths: list[int] = []  # of each segment in prompt order
        chosen: list[tuple[bool, int]] = []  # per segment: whether it is a change, and its number in its group
        start = 0
        for modality, count in zip(modalities, frame_counts, strict=True):
            self.lengths += layout.lengths(modality, count)
            for index in range(start, start + count):
                changes = modality == "pair" or modality in layout.change_between
                if changes and index > start:
                    first = len(self.pairs) * layout.change_segments
                    chosen += [(True, first + v) for v in range(layout.change_segments)]
                    self.pairs.append([index - 1, index])
                if modality != "pair":
                    chosen.append((False, len(self.frames)))
                    self.frames.append(index)
            start += count
        offset = len(self.frames) * layout.image_tokens
        self.starts = [
            offset + number * layout.change_tokens if is_change else number * layout.image_tokens
            for is_change, number in chosen
        ]

    @property
    def in_order(self) -> bool:
        """Whether the groups already have the segments in prompt order."""
        return self.starts == sorted(self.starts)

    def rows(self) -> Tensor:
        """The index in the groups of each row in prompt order (R,)."""
        lengths = torch.tensor(self.lengths)
        shift = torch.tensor(self.starts) - (lengths.cumsum(0) - lengths)
        return torch.arange(sum(self.lengths)) + shift.repeat_interleave(lengths)
