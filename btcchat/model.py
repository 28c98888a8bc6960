"""BTCChat: images -> vision tower -> change encoder -> projector -> merge with the prompt -> language model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers.utils import ModelOutput

from btcchat import generation as inference
from btcchat.change_encoder import change_map
from btcchat.checkpoint import adapter
from btcchat.checkpoint import load as checkpoint
from btcchat.checkpoint.config import BTCChatConfig
from btcchat.errors import BTCChatError, choose
from btcchat.layers.loss import mean_loss
from btcchat.media.images import MODALITIES
from btcchat.merge import merge
from btcchat.multimodal_encoder.cache import FeatureCache

# In training the length of a batch is a multiple of this: oneDNN makes a kernel for every new shape, and keeps it.
LENGTH_MULTIPLE = 16


@dataclass
class Output(ModelOutput):  # a kind that DeepSpeed finds the tensors of
    """``loss`` where labels were given, else ``logits`` (B, N', vocabulary)."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class BTCChat(nn.Module):
    """One image, a pair, a series or a video, and a question in; text out. Parts: see design.md's picture.

    Build one with :meth:`from_pretrained`; the constructor only joins parts that exist.
    """

    def __init__(
        self,
        config: BTCChatConfig,
        *,
        vision_tower: nn.Module,
        change_encoder: nn.Module,
        mm_projector: nn.Module,
        llm: nn.Module,
        tokenizer,
        image_processor,
    ):
        super().__init__()
        self.config = config
        self.vision_tower = vision_tower
        self.change_encoder = change_encoder
        self.mm_projector = mm_projector
        self.llm = llm
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.base: adapter.Base | None = None  # where the language model has an adapter: what it belongs to
        # In training: run every part in every step, on a blank pair where a batch has none. Processes that train
        # together need it: each must take part in every exchange of gradients (and of weights, ZeRO-3).
        self.every_part = False
        # In training, of a frozen tower: what computes its features (train.frozen_tower), and where they are kept.
        self.frozen_tower: Callable[[torch.Tensor], list[torch.Tensor]] | None = None
        self.feature_cache: FeatureCache | None = None

    # -- checkpoints ---------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None, **options) -> "BTCChat":
        """Load a checkpoint folder or hub id; None is the packaged tiny model. Options: :func:`checkpoint.load`."""
        return checkpoint.load(cls, path, **options)

    @classmethod
    def from_parts(cls, *, vision_tower: str | Path, llm: str | Path, **options) -> "BTCChat":
        """Join a published vision tower and LLaMA-family LM, to be trained. Options: :func:`checkpoint.from_parts`."""
        return checkpoint.from_parts(cls, vision_tower=vision_tower, llm=llm, **options)

    def save_pretrained(self, folder: str | Path, **options) -> None:
        """Write the checkpoint folder (complete or not at all). Options: :func:`checkpoint.save`."""
        checkpoint.save(self, Path(folder), **options)

    def adapter_off(self):
        """``with model.adapter_off(): ...``: answers of the base, from the same weights. Needs an adapter."""
        return adapter.off(self)

    # -- the forward path ----------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        return self.llm.get_input_embeddings().weight.device

    def tokens_per_segment(self, modality: str) -> int:
        """M: features that stand for one placeholder; of a series with change tokens, the most that one stands for."""
        count = self.vision_tower.num_tokens
        pooled = getattr(self.change_encoder, "num_tokens", lambda count: count)(count)
        image, change = map(self.mm_projector.num_tokens, (count, pooled))
        if modality == "pair":
            return change
        return max(image, change) if self.config.has_change_tokens(modality) else image

    def num_segments(self, modality: str, num_frames: int) -> int:
        """K: placeholders a sample has in its prompt. Raises BTCChatError for a wrong number of frames."""
        low, high = choose("modality", modality, MODALITIES)
        if num_frames < low or (high is not None and num_frames > high):
            expected = {"pair": "2 (before, after)", "series": "2 to 16 dates", "image": "1", "text": "none"}
            raise BTCChatError(f"{num_frames} images given, a {modality} needs {expected.get(modality, 'at least 1')}")
        if modality == "pair":
            return self.change_encoder.segments
        if self.config.has_change_tokens(modality):
            return num_frames + (num_frames - 1) * self.change_encoder.segments
        return num_frames

    def encode(
        self,
        pixel_values: torch.Tensor | None,
        modalities: list[str],
        frame_counts: list[int],
        cached: tuple | None = None,
    ) -> tuple[torch.Tensor, list[int]]:
        """Images of a batch -> features of all its segments in prompt order.

        pixel_values: (sum of frame_counts, 3, H, W). Returns features (sum of lengths, D) and the lengths (K,).
        One vision forward, one change-encoder forward for all pairs, one projector forward for all segments.
        cached: see data.collate; pixel_values are then of the frames that the cache does not have.
        """
        tower = self.frozen_tower if self.training and self.frozen_tower is not None else self.vision_tower
        depths = None if pixel_values is None else tower(pixel_values.to(self.device))  # S x (F, L, C)
        if cached is not None:
            depths = self.feature_cache.complete(depths, *cached, self.device)
        return self.segments(depths, modalities, frame_counts)

    def segments(
        self, depths: list[torch.Tensor], modalities: list[str], frame_counts: list[int]
    ) -> tuple[torch.Tensor, list[int]]:
        """As :meth:`encode`, from what the vision tower gives of the frames, S x (F, L, C)."""
        plan = _Plan(self, modalities, frame_counts)
        groups = []
        if plan.frames:
            groups.append(depths[-1][plan.frames])  # (frames used as they are, L, C)
        if plan.pairs:
            index = torch.tensor(plan.pairs, device=self.device)  # (P, 2)
            pairs = torch.stack([depth[index] for depth in depths], dim=2)  # (P, 2, S, L, C)
            groups.append(self.change_encoder(pairs).flatten(0, 1))  # (P*V, L', C)
        if len({group.shape[1] for group in groups}) == 1:
            groups = [torch.cat(groups)]
        projected = [features for group in groups for features in self.mm_projector(group)]  # K x (M, D)
        projected = [projected[i] for i in plan.order]
        return torch.cat(projected), [len(features) for features in projected]

    def embed(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        modalities: list[str] = (),
        frame_counts: list[int] = (),
        labels: torch.Tensor | None = None,
        padding_side: str = "right",
        cached: tuple | None = None,
    ):
        """A collated batch -> :class:`merge.Merged`, what the language model reads."""
        features, lengths, blank = None, [], None
        if self.every_part and self.training and not self._has_pairs(modalities):
            features, lengths, blank = self._encode_with_blank_pair(pixel_values, modalities, frame_counts, cached)
        elif sum(frame_counts):
            features, lengths = self.encode(pixel_values, modalities, frame_counts, cached)
        embed = self.llm.get_input_embeddings()
        input_ids, attention_mask = input_ids.to(self.device), attention_mask.to(self.device)
        labels = None if labels is None else labels.to(self.device)
        how = {"padding_side": padding_side, "multiple": LENGTH_MULTIPLE if self.training and labels is not None else 1}
        merged = merge(embed, input_ids, attention_mask, features, lengths, labels=labels, **how)
        return merged if blank is None else merged._replace(inputs_embeds=merged.inputs_embeds + 0.0 * blank.sum())

    def _has_pairs(self, modalities: list[str]) -> bool:
        return any(modality == "pair" or self.config.has_change_tokens(modality) for modality in modalities)

    def _encode_with_blank_pair(
        self, pixel_values: torch.Tensor | None, modalities: list, frame_counts: list, cached: tuple | None
    ):
        """:meth:`encode` with a blank pair behind the batch; features and lengths without it, and its own features.

        The change encoder sees nothing else, so it is in ``eval()``: a blank does not count in BatchNorm's statistics.
        """
        tower = self.vision_tower
        if cached is None:
            blank = torch.zeros(2, 3, tower.resolution, tower.resolution, device=self.device)
            pixel_values = blank if pixel_values is None else torch.cat([pixel_values.to(blank), blank])
        else:  # the tower need not run; ones, for a cosine of zeros has no direction to learn from
            features, keys = cached
            blank = torch.ones(2, tower.num_depths, tower.num_tokens, tower.hidden_size)
            features = blank if features is None else torch.cat([features, blank.to(features)])
            cached = features, [*keys, None, None]
        trained = self.change_encoder.training
        self.change_encoder.eval()
        features, lengths = self.encode(pixel_values, [*modalities, "pair"], [*frame_counts, 2], cached)
        self.change_encoder.train(trained)
        segments = self.change_encoder.segments
        own = sum(lengths[-segments:])  # rows of the blank pair
        return features[:-own], lengths[:-segments], features[-own:]

    def forward(self, labels: torch.Tensor | None = None, **batch) -> Output:
        """Loss (mean over all supervised tokens of the batch) with labels, logits without. Batch: data.collate."""
        merged = self.embed(labels=labels, **batch)
        hidden = self.llm.get_decoder()(
            inputs_embeds=merged.inputs_embeds,
            attention_mask=merged.attention_mask,
            position_ids=merged.position_ids,
            use_cache=False,
        )[0]  # (B, N', D)
        head = self.llm.get_output_embeddings()
        if labels is None:
            return Output(logits=head(hidden))
        target = merged.labels[:, 1:]  # token i is predicted from the hidden state at i - 1
        supervised = target >= 0
        if not supervised.any():
            return Output(loss=head(hidden[:, :1]).sum() * 0.0)
        return Output(loss=mean_loss(head, hidden[:, :-1][supervised], target[supervised]))

    def train(self, mode: bool = True) -> "BTCChat":
        """As usual, but a part none of whose parameters is trained stays in ``eval()`` (BatchNorm, dropout)."""
        super().train(mode)
        for part in (self.vision_tower, self.change_encoder, self.mm_projector, self.llm):
            if mode and not any(p.requires_grad for p in part.parameters()):
                part.eval()
        if mode and self.llm.is_gradient_checkpointing:
            self.llm.get_decoder().training = True  # it recomputes only then; the blocks of a frozen one stay in eval()
        return self

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict | None = None) -> None:
        """Keep only what goes into each block of tower and language model, and compute the rest again backwards.

        The Trainer calls it; the options are those of ``torch.utils.checkpoint.checkpoint``.
        """
        options = {"use_reentrant": False} | (gradient_checkpointing_kwargs or {})
        self.vision_tower.gradient_checkpointing_enable()
        self.llm.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)

    # -- answers -------------------------------------------------------------------------------------------------

    def caption(self, before, after, **options) -> str:
        """What changed between two dates, in a sentence. Images: paths or PIL. Options: inference.GENERATION."""
        return self.ask(self.config.caption_question, pair=(before, after), **options)

    def change_map(self, before, after):
        """Where it changed: float32 array (H, W) in 0..1 at the size of ``after``. See change_map.py."""
        return change_map.change_map(self, before, after)

    def ask(self, question: str, **options) -> str:
        """Answer about one of ``image=``, ``pair=``, ``series=``, ``video=`` (or nothing: text only)."""
        return inference.ask(self, question, **options)

    def stream(self, question: str, **options):
        """As :meth:`ask`, yielding the answer piece by piece as it is written."""
        return inference.stream(self, question, **options)

    def answer(self, requests: list["inference.Request"], **options) -> list[str]:
        """Answer a batch of requests of any modalities together."""
        return inference.answer(self, requests, **options)


class _Plan:
    """Which frames go on as they are, which make pairs, and in which order their segments stand in the prompts."""

    def __init__(self, model: BTCChat, modalities: list[str], frame_counts: list[int]):
        self.frames: list[int] = []  # indices into the batch's frames
        self.pairs: list[list[int]] = []  # [before, after] indices
        chosen: list[tuple[str, int]] = []  # segments in prompt order
        start = 0
        for modality, count in zip(modalities, frame_counts, strict=True):
            model.num_segments(modality, count)  # raises on a wrong count
            frames = range(start, start + count)
            start += count
            if modality == "pair":
                chosen += self._pair(frames[0], frames[1], model)
                continue
            with_changes = model.config.has_change_tokens(modality)
            for index in frames:
                if with_changes and index > frames[0]:
                    chosen += self._pair(index - 1, index, model)
                chosen.append(("frame", len(self.frames)))
                self.frames.append(index)
        offset = {"frame": 0, "change": len(self.frames)}
        self.order = [offset[kind] + i for kind, i in chosen]

    def _pair(self, before: int, after: int, model: BTCChat) -> list[tuple[str, int]]:
        self.pairs.append([before, after])
        first = (len(self.pairs) - 1) * model.change_encoder.segments
        return [("change", first + v) for v in range(model.change_encoder.segments)]
