"""Prompt augmentation: a clue model answers one fixed question about the images, and the answer goes into the prompt.

The clue model is any checkpoint, or the model itself. Its adapter, if any, is switched off while it answers, so that a
clue says what the model knew before it was tuned.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from btcchat.api import BTCChat
from btcchat.checkpoint.hub import resolve
from btcchat.clues.store import CLUE_QUESTIONS, Clues, ClueWriter, agree, check_flags
from btcchat.data.mixture.hashes import checkpoint_hash
from btcchat.data.mixture.mixture import Mixture
from btcchat.data.mixture.stream import StreamMixture
from btcchat.data.records import Record
from btcchat.errors import BTCChatError
from btcchat.generation import GenerationOptions
from btcchat.media.frames import Sources, load_frames
from btcchat.media.reading import Reading
from btcchat.processor import request

MAX_NEW_TOKENS = 64  # per clue
SELF = "self"  # --clue_model self: the model itself

# (modality, path or paths as `Clues` takes them, images as the model takes them)
ClueRequest: TypeAlias = tuple[str, Sources, Sources]
ClueSource: TypeAlias = Callable[[list[ClueRequest]], list[str]]
_Waiting: TypeAlias = tuple[str, Record, list[Image.Image]]  # (key, record, frames)


def ask(model: BTCChat, about: list[tuple[str, Sources]], max_new_tokens: int = MAX_NEW_TOKENS) -> list[str]:
    """A clue for each (modality, path or images), from one batch, with the model's adapter switched off."""
    records = [request(CLUE_QUESTIONS[modality], modality, source) for modality, source in about]
    with model.adapter_off() if has_adapter(model) else nullcontext():
        return model.answer(records, GenerationOptions(max_new_tokens))


def has_adapter(model: BTCChat) -> bool:
    return model.base is not None


def records_of(mixture: Mixture | StreamMixture) -> Iterator[Record]:
    """Every record of a mixture, streamed or not; one that is mixed in twice comes twice."""
    return mixture.records(epoch=0) if isinstance(mixture, StreamMixture) else map(mixture.record, range(len(mixture)))


def describe(path: str | Path | None, model: BTCChat, max_new_tokens: int = MAX_NEW_TOKENS) -> dict[str, Any]:
    """The contents of clues.json for the clue model at ``path``: which model it is, and how it is asked."""
    return {
        "model": str(path or "tiny"),
        "identity": checkpoint_hash(resolve(path)),
        "questions": CLUE_QUESTIONS,
        "max_new_tokens": max_new_tokens,
        "num_video_frames": model.config.num_video_frames,
        "reading": model.processor.reading.record(),
    }


def write_clues(
    model: BTCChat,
    records: Iterable[Record],
    writer: ClueWriter,
    *,
    batch_size: int,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Iterator[str | None]:
    """Ask for the clues that ``writer`` does not have yet; yields once per record: None, or why it has no clue.

    Records of the same images share a clue. A batch has one modality: images are not padded to the length of a video.
    """
    waiting: dict[str, list[_Waiting]] = {}  # modality -> records of the next batch

    def answer(batch: list[_Waiting]) -> list[None]:
        clues = ask(model, [(record.modality, frames) for _, record, frames in batch], max_new_tokens)
        writer.add([(record.modality, record.sources, clue) for (_, record, _), clue in zip(batch, clues, strict=True)])
        batch.clear()
        return [None] * len(clues)

    for record in records:
        batch = waiting.setdefault(record.modality, [])
        try:
            if record.modality == "text" or (key := writer.key(record.modality, record.sources)) in writer:
                yield None
                continue
            if key in (other for other, _, _ in batch):
                yield None
                continue
            frames = load_frames(
                record.modality, record.sources, model.config.num_video_frames, reading=model.processor.reading
            )
            batch.append((key, record, frames))
        except BTCChatError as error:
            yield f"{record.where}: {error}"
            continue
        if len(batch) == batch_size:
            yield from answer(batch)
    for batch in waiting.values():
        if batch:
            yield from answer(batch)


def clue_model_of(model: BTCChat, clue_model: str | None, load: Callable[[str], BTCChat]) -> BTCChat:
    """The model to ask: ``model`` with its adapter off, or the one that ``clue_model`` names.

    Raises BTCChatError if no clue model is named and ``model`` has no adapter.
    """
    if clue_model is None and not has_adapter(model):
        raise BTCChatError(
            "--prompt_augmentation online: the model has no adapter to switch off; name another checkpoint with "
            f"--clue_model, or the model itself with --clue_model {SELF}"
        )
    return model if clue_model is None or clue_model == SELF else load(clue_model)


def open_clues(folder: str | Path, reading: Reading, clue_model: str | None = None) -> Clues:
    """Open the clues of ``folder``.

    Raises BTCChatError if their images were read in another way, or if they are not those of ``clue_model``.
    """
    clues = Clues(folder, reading=reading)
    if clue_model is not None:
        agree(clues.about, {"model": clue_model, "identity": checkpoint_hash(resolve(clue_model))}, clues.folder)
    return clues


def from_cache(clues: Clues) -> ClueSource:
    return lambda requests: [clues.of(modality, paths) for modality, paths, _ in requests]


def clue_source(
    mode: str,
    model: BTCChat,
    *,
    clues: str | None = None,
    clue_model: str | None = None,
    load: Callable[[str], BTCChat] = BTCChat.from_pretrained,
) -> ClueSource | None:
    """Return the function that gets the clues of questions to a model that is served; None with mode off.

    load: opens the clue model at a path. Raises BTCChatError if flags contradict each other or the clues do not fit.
    """
    check_flags(mode, clues, clue_model)
    if mode == "off":
        return None
    if clues is not None:  # mode is cached: check_flags allows clues in no other mode
        return from_cache(open_clues(clues, model.processor.reading, clue_model))
    answering = clue_model_of(model, clue_model, load)
    return lambda requests: ask(answering, [(modality, images) for modality, _, images in requests])
