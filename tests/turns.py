"""Turns of a chat for tests, by the function that makes every turn."""

from btcchat.prompt import Turn, turns_from_record


def user_turn(question: str, segments: int = 0, *, modality: str = "series", **hints) -> Turn:
    """What a person asks, after its placeholders. hints: dates, task, clue."""
    message = {"from": "human", "value": question}
    return turns_from_record([message], segments=segments, modality=modality, literal=True, **hints)[0]
