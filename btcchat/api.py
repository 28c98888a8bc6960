"""BTCChat: the model as a user calls it. Loading and saving, captions, answers, change maps."""

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from btcchat import generation
from btcchat.change_encoder import merge_options
from btcchat.change_encoder.change_map import at_size
from btcchat.checkpoint import adapter
from btcchat.checkpoint import load as loading
from btcchat.checkpoint.folder import EncoderChoice, ProjectorChoice
from btcchat.checkpoint.save import save
from btcchat.data.records import Record
from btcchat.errors import BTCChatError, wrong_type
from btcchat.generation import GREEDY, GenerationOptions
from btcchat.limits.regular import nameable
from btcchat.media.frames import load_frames
from btcchat.media.images import ImageLike
from btcchat.media.reading import DEFAULT, Reading
from btcchat.model import BTCChatModel
from btcchat.processor import about, request


class BTCChat(BTCChatModel):
    """One image, a pair, a series or a video, and a question in; text out.

    Build one with :meth:`from_pretrained` or :meth:`from_parts`; the constructor only joins existing parts. An image is
    a path, a PIL image, a numpy array (H, W) or (H, W, 3) or a torch tensor (3, H, W), of uint8 or floating point in
    0..1.
    """

    # -- checkpoints -----------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        *,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
        base: str | Path | None = None,
        vision_tower: str | Path | None = None,
        from_origin: bool = False,
        fresh_change_encoder: bool = False,
        chg_type: str | None = None,
        cc_n_layers: int | None = None,
        cc_head: int | None = None,
        cc_dropout: float | None = None,
        cc_args: Mapping[str, Any] | None = None,
        fresh_mm_projector: bool = False,
        mm_projector_type: str | None = None,
        attn_implementation: str | None = None,
        quantize: str | None = None,
        conv_version: str | None = None,
        caption_question: str | None = None,
        pair_prompt: str | None = None,
        num_video_frames: int | None = None,
        image_aspect_ratio: str | None = None,
        vision_resolution: int | None = None,
        mm_vision_select_layer: int | list[int] | None = None,
        mm_vision_select_feature: str | None = None,
        series_change_tokens: bool | None = None,
        video_change_tokens: bool | None = None,
        reading: Reading = DEFAULT,
    ) -> "BTCChat":
        """Load a checkpoint folder, a hub id, or the packaged model (``"tiny"`` or None); the model is in ``eval()``.

        device: auto (cuda, else mps, else cpu) or a torch device. dtype: auto, float32, bfloat16, float16.
        base: for an adapter folder, where its base is now; by default where it was during training.
        vision_tower: for a LLaVA-NeXT folder, which lacks the sizes of its tower: the tower to take them from, if not
        the one that it names.
        fresh_change_encoder: start a fresh change encoder of ``chg_type`` (default: the checkpoint's kind, with its
        options), whatever the checkpoint has; the other parts are kept. Its weights are drawn from torch's random
        state. from_origin: the same for a checkpoint without one (an original VILA-1.5 checkpoint).
        cc_args: options of the change encoder by name; cc_n_layers, cc_head and cc_dropout are the published names of
        three of them. Without a fresh change encoder they supply what a published folder does not record, and
        must agree with what it does.
        fresh_mm_projector: start a fresh projector of ``mm_projector_type`` (default: the checkpoint's).
        attn_implementation: of the language model, as in transformers; by default the fastest available.
        quantize: int8 or int4, for inference: quantise the large linear layers (docs/quantize.md).
        reading: bands, stretch and no-data value of the images; can be changed later as ``model.processor.reading``.
        The others override the field of the same name in the checkpoint's BTCChatConfig.
        Raises BTCChatError for an unknown path, a missing or malformed file, or weights that do not fit the config.
        """
        if cc_args is not None and not isinstance(cc_args, Mapping):
            raise wrong_type("cc_args", cc_args, "a dict of options of the change encoder")
        for name, text in (("chg_type", chg_type), ("mm_projector_type", mm_projector_type)):
            if text is not None and not isinstance(text, str):
                raise wrong_type(name, text, "a string")
        published = _given({"cc_n_layers": cc_n_layers, "cc_head": cc_head, "cc_dropout": cc_dropout})
        ways = {name: {name: value} for name, value in published.items()}
        options = merge_options(ways | {"cc_args": dict(cc_args or {})})
        fields = {
            "conv_version": conv_version,
            "caption_question": caption_question,
            "pair_prompt": pair_prompt,
            "num_video_frames": num_video_frames,
            "image_aspect_ratio": image_aspect_ratio,
            "vision_resolution": vision_resolution,
            "mm_vision_select_layer": mm_vision_select_layer,
            "mm_vision_select_feature": mm_vision_select_feature,
            "series_change_tokens": series_change_tokens,
            "video_change_tokens": video_change_tokens,
        }
        if not isinstance(reading, Reading):
            raise wrong_type("reading", reading, "a btcchat.media.Reading")
        model = loading.load(
            cls,
            path,
            loading.Placement(device, dtype, attn_implementation, quantize),
            base=base,
            vision_tower=vision_tower,
            change_encoder=EncoderChoice(fresh_change_encoder, from_origin, chg_type, options),
            mm_projector=ProjectorChoice(fresh_mm_projector, mm_projector_type),
            fields=_given(fields),
        )
        model.processor.reading = reading
        return model

    @classmethod
    def from_parts(
        cls,
        *,
        vision_tower: str | Path,
        llm: str | Path,
        mm_projector: str = "mlp_downsample",
        change_encoder: Mapping[str, Any] | None = None,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
        mm_vision_select_layer: int | list[int] | None = None,
        mm_vision_select_feature: str | None = None,
        conv_version: str | None = None,
        image_aspect_ratio: str | None = None,
        vision_resolution: int | None = None,
        num_video_frames: int | None = None,
    ) -> "BTCChat":
        """Join a published vision tower and language model with a fresh projector and change encoder, for training.

        vision_tower: a folder or hub id, e.g. google/siglip2-base-patch16-256. llm: a causal LM of the families in
        docs/backbones.md, e.g. Qwen/Qwen3-0.6B, whose template conv_version names. change_encoder: its config, by
        default ``attentive``. The others are fields of BTCChatConfig.
        """
        if change_encoder is not None and not isinstance(change_encoder, Mapping):
            raise wrong_type("change_encoder", change_encoder, "a dict, the config of a change encoder")
        if not isinstance(mm_projector, str):
            raise wrong_type("mm_projector", mm_projector, "a string")
        fields = {
            "mm_vision_select_layer": mm_vision_select_layer,
            "mm_vision_select_feature": mm_vision_select_feature,
            "conv_version": conv_version,
            "image_aspect_ratio": image_aspect_ratio,
            "vision_resolution": vision_resolution,
            "num_video_frames": num_video_frames,
        }
        return loading.from_parts(
            cls,
            loading.Placement(device, dtype),
            vision_tower=vision_tower,
            llm=llm,
            mm_projector=mm_projector,
            change_encoder=dict(change_encoder or {"change_encoder_type": "attentive"}),
            fields=_given(fields),
        )

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        dtype: torch.dtype | None = None,
        max_shard_size: str = "5GB",
        state_dict: dict[str, torch.Tensor] | None = None,
    ) -> None:
        """Write the checkpoint folder, completely or not at all. A checkpoint that btcchat saved there is replaced.

        dtype: cast floating-point weights to it; None leaves them unchanged. state_dict: the weights, if the model
        itself holds only a share of them (ZeRO-3). Raises BTCChatError for an empty path, a folder with files of
        another checkpoint, or a weight that is not finite.
        """
        if not isinstance(folder, str | Path):
            raise wrong_type("folder", folder, "a path")
        if folder == "":
            raise BTCChatError("save_pretrained needs a folder, got ''; the current one is '.'")
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise wrong_type("dtype", dtype, "a torch dtype of floating point, or None")
        if not isinstance(max_shard_size, str) or not re.fullmatch(r"\d{1,9}[KMGT]i?B", max_shard_size.upper()):
            raise BTCChatError(f"max_shard_size is {max_shard_size!r}, expected a number with its unit, such as '5GB'")
        if state_dict is not None and not isinstance(state_dict, Mapping):
            raise wrong_type("state_dict", state_dict, "a dict of tensors")
        save(self, nameable(folder), dtype=dtype, max_shard_size=max_shard_size, state_dict=state_dict)

    def adapter_off(self) -> AbstractContextManager[None]:
        """``with model.adapter_off(): ...`` answers with the base model, using the same weights. Needs an adapter."""
        return adapter.off(self)

    # -- answers ---------------------------------------------------------------------------------------------------

    def caption(
        self,
        before: ImageLike,
        after: ImageLike,
        *,
        dates: Sequence[str] | None = None,
        task: str | None = None,
        clue: str | None = None,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        num_beams: int = 1,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> str:
        """Describe in a sentence what changed between two dates. Options: see :meth:`ask`."""
        options = GenerationOptions(max_new_tokens, temperature, top_p, repetition_penalty, num_beams, seed, stop)
        question = self.config.caption_question
        record = request(question, "pair", [before, after], dates=dates, task=task, clue=clue)
        return self.answer([record], options)[0]

    def ask(
        self,
        question: str,
        *,
        image: ImageLike | None = None,
        pair: Sequence[ImageLike] | None = None,
        series: Sequence[ImageLike] | str | Path | None = None,
        video: Sequence[ImageLike] | str | Path | None = None,
        dates: Sequence[str] | None = None,
        history: Sequence[Mapping[str, str]] = (),
        task: str | None = None,
        clue: str | None = None,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        num_beams: int = 1,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> str:
        """Answer a question about an image, a pair (before, after), a series of dates, a video or nothing (text only).

        series, video: also a folder; video: also a file. dates: one for each image. history: the chat so far,
        ``[{"from": "human", "value": ...}, {"from": "gpt", "value": ...}, ...]``, about the same images.
        max_new_tokens to stop: see :class:`generation.GenerationOptions`. Raises BTCChatError for input that cannot
        be read, and for a prompt that is too long for the model.
        """
        options = GenerationOptions(max_new_tokens, temperature, top_p, repetition_penalty, num_beams, seed, stop)
        shown = about(image=image, pair=pair, series=series, video=video)
        record = request(question, *shown, dates=dates, history=history, task=task, clue=clue)
        return self.answer([record], options)[0]

    def stream(
        self,
        question: str,
        *,
        image: ImageLike | None = None,
        pair: Sequence[ImageLike] | None = None,
        series: Sequence[ImageLike] | str | Path | None = None,
        video: Sequence[ImageLike] | str | Path | None = None,
        dates: Sequence[str] | None = None,
        history: Sequence[Mapping[str, str]] = (),
        task: str | None = None,
        clue: str | None = None,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
    ) -> Generator[str, None, None]:
        """Like :meth:`ask`, but yield the answer piece by piece. Closing the generator stops it."""
        options = GenerationOptions(max_new_tokens, temperature, top_p, repetition_penalty, 1, seed, stop)
        shown = about(image=image, pair=pair, series=series, video=video)
        record = request(question, *shown, dates=dates, history=history, task=task, clue=clue)
        batch = self.processor.collate([self.processor(record, train=False)])
        return generation.stream(self, batch, options)

    def answer(
        self, records: Sequence[Record], options: GenerationOptions | Sequence[GenerationOptions] = GREEDY
    ) -> list[str]:
        """Answers to a batch of records of any modalities (see `processor.request`).

        options: one for all records, or a list with one for each.
        """
        if isinstance(records, str) or not isinstance(records, Sequence):
            raise wrong_type("records", records, "a list of Record")
        if not records:
            raise BTCChatError("records is empty; give at least one, such as btcchat.request('What is here?')")
        for number, record in enumerate(records):
            if not isinstance(record, Record):
                raise wrong_type(f"records[{number}]", record, "a Record (see btcchat.request)")
        batch = self.processor.collate([self.processor(record, train=False) for record in records])
        return generation.generate(self, batch, options)

    @torch.inference_mode()
    def change_map(self, before: ImageLike, after: ImageLike) -> np.ndarray:
        """Where the scene changed: float32 (H, W) in 0..1 at the size of ``after``; 0 means alike, 1 opposite.

        It is the cosine distance of the two dates' features in the change encoder (or in the vision tower, if the
        encoder has no features of its own): one value for each patch, interpolated. It says how far the features moved,
        not how probable a change is: choose a threshold on validation pairs.
        """
        frames = load_frames("pair", [before, after], reading=self.processor.reading)
        distances = self.distances(self.see(self.processor.pixels(frames)))
        padded = self.image_processor.aspect_ratio == "pad"
        return at_size(distances[0], *frames[1].size, padded=padded)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
