"""Turns of a chat for tests, built by the function that builds every turn."""

from btcchat.prompt import Hints, Turn, Wording, turns_from_record


def turns_of(
    conversation: list[dict], *, segments: int, modality: str, frames: int | None = None, **words
) -> list[Turn]:
    """words: the fields of Hints and Wording."""
    hints = Hints(**{name: words.pop(name) for name in ("dates", "task", "clue") if name in words})
    literal = words.pop("literal", False)
    return turns_from_record(
        conversation,
        segments=segments,
        modality=modality,
        frames=frames,
        hints=hints,
        wording=Wording(**words),
        literal=literal,
    )


def user_turn(question: str, segments: int = 0, *, modality: str = "series", **words) -> Turn:
    """A person's question, after its placeholders."""
    message = {"from": "human", "value": question}
    return turns_of([message], segments=segments, modality=modality, literal=True, **words)[0]
