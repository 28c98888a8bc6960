"""From a question and its images to an answer: prepare samples, batch them, decode."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import torch

from btcchat.checkpoint.config import BTCChatConfig
from btcchat.compat import new_tokens
from btcchat.data.collate import collate
from btcchat.errors import BTCChatError
from btcchat.media import load_frames
from btcchat.prompt import templates as prompt

CAPTION_QUESTION = BTCChatConfig.caption_question  # unless a model's config says another
GENERATION = {"max_new_tokens": 128, "temperature": 0.0, "seed": None, "num_beams": 1}


@dataclass
class Request:
    """One question. ``source``: a path or PIL image, or a list of them; ``history``: the turns of the chat so far.

    In a chat the images belong to its first turn, so ``modality`` and ``source`` are the same for every turn.
    """

    question: str
    modality: str = "text"
    source: Any = None
    dates: list[str] | None = None
    history: list[prompt.Turn] = field(default_factory=list)
    task: str | None = None
    clue: str | None = None


def prepare(model, request: Request) -> dict:
    """Request -> sample of data.collate: prompt ids, pixel values (T, 3, H, W), modality."""
    frames = []
    if request.modality != "text":
        frames = load_frames(request.modality, request.source, num_video_frames=model.config.num_video_frames)
    turns = [*request.history, question_turn(model, request, len(frames))]
    return as_sample(model, request.modality, pixels(model, frames), turns)


def pixels(model, frames: list) -> torch.Tensor | None:
    """Images -> (T, 3, H, W) as the vision tower reads them; None where there is none."""
    return torch.stack([model.image_processor(frame) for frame in frames]) if frames else None


def as_sample(model, modality: str, pixel_values: torch.Tensor | None, turns: list[prompt.Turn]) -> dict:
    """A chat that ends with a question, and the frames it shows, -> sample of data.collate."""
    encoded = prompt.encode(turns, model.tokenizer, model.config.conv_version, train=False)
    encoded = prompt.fit(encoded, model.tokens_per_segment(modality), model.config.model_max_length, train=False)
    return {
        "input_ids": torch.tensor(encoded.input_ids),
        "labels": torch.tensor(encoded.labels),
        "pixel_values": pixel_values,
        "modality": modality,
    }


def question_turn(model, request: Request, num_frames: int) -> prompt.Turn:
    """The turn of ``request``; its placeholders are left out where the history shows the images already."""
    segments = model.num_segments(request.modality, num_frames)
    shown = sum(turn.content.count(prompt.IMAGE) for turn in request.history)
    if shown not in (0, segments):
        raise BTCChatError(
            f"the chat so far shows {shown} image segments, these images make {segments}; start a new chat"
        )
    return prompt.user_turn(
        request.question,
        segments - shown,
        dates=request.dates,
        task=request.task,
        clue=request.clue,
        shown=model.config.pair_prompt if request.modality == "pair" else "",
    )


def batch_of(model, requests: list[Request]) -> dict:
    """Requests -> what BTCChat.embed takes."""
    return collated(model, [prepare(model, request) for request in requests])


def collated(model, samples: list[dict]) -> dict:
    batch = collate(samples, model.tokenizer.pad_token_id)
    batch.pop("labels")
    return batch


@torch.no_grad()  # not inference_mode: weights that ZeRO-3 gathers in it could not be trained on
def generate(
    model, batch: dict, *, max_new_tokens=128, temperature=0.0, seed=None, num_beams=1, streamer=None, stop=None
) -> torch.Tensor:
    """A collated batch -> new token ids (B, <= max_new_tokens). Greedy unless temperature > 0 or num_beams > 1.

    stop: a threading.Event; once it is set, no more tokens are made.
    """
    limit = model.config.model_max_length
    merged = model.embed(**batch, padding_side="left")
    room = limit - merged.inputs_embeds.shape[1]
    if room < 1:
        raise BTCChatError(f"the prompt has {limit - room} tokens with its images, the model reads at most {limit}")
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    with torch.random.fork_rng(enabled=seed is not None), _last_only(model.llm.get_output_embeddings()):
        if seed is not None:
            torch.manual_seed(seed)
        ids = model.llm.generate(
            inputs_embeds=merged.inputs_embeds,
            attention_mask=merged.attention_mask,
            max_new_tokens=min(max_new_tokens, room),
            pad_token_id=model.tokenizer.pad_token_id,
            eos_token_id=prompt.end_ids(model.tokenizer, model.config.conv_version),
            bos_token_id=model.tokenizer.pad_token_id,  # only fills the column that new_tokens drops
            use_cache=True,
            num_beams=num_beams,
            streamer=streamer,
            stopping_criteria=[] if stop is None else [lambda *_, **__: stop.is_set()],
            **sampling,
        )
    return new_tokens(ids)


@contextmanager
def _last_only(head: torch.nn.Module) -> Iterator[None]:
    """Words are predicted from a row's last token alone: transformers 4.36 would do it from every one of the prompt."""
    hook = head.register_forward_pre_hook(lambda _, hidden: (hidden[0][:, -1:],))
    try:
        yield
    finally:
        hook.remove()


def answer(model, requests: list[Request], **options) -> list[str]:
    return answer_batch(model, batch_of(model, requests), **options)


def answer_batch(model, batch: dict, **options) -> list[str]:
    """A collated batch -> its answers. Options: GENERATION."""
    ids = generate(model, batch, **checked(options))
    texts = model.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [_until_stop(model, text)[0].strip() for text in texts]


def _until_stop(model, text: str) -> tuple[str, bool]:
    """``text`` up to the template's stop string, and whether it was there."""
    for stop in prompt.get_template(model.config.conv_version).stop:
        if stop in text:
            return text[: text.index(stop)], True
    return text, False


def ask(model, question: str, **options) -> str:
    request, options = _request(question, options)
    return answer(model, [request], **options)[0]


def stream(model, question: str, **options) -> Iterator[str]:
    """Yield the answer as it is written; closing the iterator stops the writing."""
    from transformers import TextIteratorStreamer

    request, options = _request(question, options)
    options = checked(options)
    batch = batch_of(model, [request])
    pieces = TextIteratorStreamer(model.tokenizer, skip_prompt=True, skip_special_tokens=True)
    stop, faults = Event(), []

    def write() -> None:
        try:
            generate(model, batch, streamer=pieces, stop=stop, **options)
        except BaseException as error:  # noqa: BLE001 - the reader below raises it
            faults.append(error)
            pieces.end()

    thread = Thread(target=write, daemon=True)
    thread.start()
    try:
        for piece in pieces:
            piece, ends = _until_stop(model, piece)
            if piece:
                yield piece
            if ends:
                break
    finally:
        stop.set()
        thread.join()
    if faults:
        raise faults[0]


def _request(question: str, options: dict) -> tuple[Request, dict]:
    """Split keyword options into the request and the generation options."""
    given = [name for name in ("image", "pair", "series", "video") if options.get(name) is not None]
    if len(given) > 1:
        raise BTCChatError(f"{' and '.join(given)} were given; a question is about one of them")
    extra = {name: options.pop(name) for name in ("dates", "history", "task", "clue") if name in options}
    modality = given[0] if given else "text"
    source = options.get(modality)
    for name in ("image", "pair", "series", "video"):
        options.pop(name, None)
    extra["history"] = list(extra.get("history") or [])
    return Request(question, modality, source, **extra), options


def checked(options: dict) -> dict:
    """GENERATION with ``options``; raises BTCChatError for one that it does not have."""
    for name in options:
        if name not in GENERATION:
            raise BTCChatError(f"unknown option '{name}'; choose from {', '.join(GENERATION)}")
    options = GENERATION | options
    if options["max_new_tokens"] < 1:
        raise BTCChatError(f"max_new_tokens is {options['max_new_tokens']}; it must be at least 1")
    if options["num_beams"] < 1:
        raise BTCChatError(f"num_beams is {options['num_beams']}; it must be at least 1")
    if options["num_beams"] > 1 and options["temperature"] > 0:
        raise BTCChatError("temperature above 0 samples and num_beams above 1 searches; choose one of them")
    if options["temperature"] < 0:
        raise BTCChatError(f"temperature is {options['temperature']}; it must be 0 (greedy) or above")
    return options
