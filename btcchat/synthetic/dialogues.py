"""The chats about a sample that a model is trained on: dense answers, lists, single questions, whole conversations."""

from numpy.random import Generator

from btcchat.synthetic.answers import list_changes, plain_caption, plain_scene
from btcchat.synthetic.phrasing import typed
from btcchat.synthetic.samples import SyntheticSample, generator, swap
from btcchat.synthetic.unknown import unknown_question
from btcchat.synthetic.words import pick, words

Turns = list[tuple[str, str]]  # (question, answer)
# JSONL files of a task; the folder of its images has the name of the last one.
FILES = {
    "pair": ("pairs_align", "pairs_changes", "pairs_questions", "pairs"),
    "image": ("images_align", "images_questions", "images"),
    "series": ("series_questions", "series"),
    "video": ("videos_questions", "videos"),
}
ALONE = {"pair": 8, "image": 10, "series": 8, "video": 8}  # questions of a sample that are asked alone, at most
# Of a chat: at least, less than. Many on an image, as they are about many things; those on a change are about the same
# one, so from the second on an answer could be derived from earlier ones.
QUESTIONS = {"pair": (4, 9), "image": (14, 22), "series": (5, 10), "video": (5, 10)}
UNKNOWN_SHARE = 1 / 6  # of the questions
CAPTION_SHARE = 3 / 8  # of the samples whose questions that are asked alone include the caption


def dialogues(sample: SyntheticSample) -> list[tuple[str, SyntheticSample, Turns]]:
    """The chats about a sample: the JSONL file of each, what is shown, and (question, answer) turns.

    The dense answers teach a fresh model to look; from captions alone it learns to guess. For a pair, the list of what
    changed teaches it to find the one place of nine that did. That list shows the later date first, so that it cannot
    be learned by heart from the dense answer to the same images. The questions of NAME_questions.jsonl are independent
    (prompt/independent.py), so they can only be answered from the images; later in a chat, a question could also be
    answered from earlier answers.
    """
    rng = generator(sample.task, sample.seed, sample.heldout, 4)
    requests = words()["requests"]
    name = FILES[sample.task][-1]
    found = [(name, sample, chat(sample))]
    found.append((f"{name}_questions", sample, asked_alone(sample)))
    if sample.task == "pair":
        swapped = swap(sample)
        turn = pick(rng, requests["list"]), list_changes(swapped.truth["changes"])
        found.append(("pairs_changes", swapped, [turn]))
    if sample.task in ("image", "pair"):
        found.append((f"{name}_align", sample, [(pick(rng, requests[f"dense_{sample.task}"]), sample.description)]))
    return found


def chat(sample: SyntheticSample) -> Turns:
    """Questions and a caption.

    The caption comes last in half of the chats about a pair, and in three quarters of the others, so that the questions
    before it have to be answered from the images. Where it comes first, it teaches answers that agree with it. One
    question in six has no answer in the scenes. The dense description is left out because a model would learn to
    summarise it, not to look.
    """
    rng = generator(sample.task, sample.seed, sample.heldout, 3)
    turns = _asked(rng, sample, int(rng.integers(*QUESTIONS[sample.task])))
    turn = _caption_turn(rng, sample)
    turns.insert(0 if rng.random() < (0.5 if sample.task == "pair" else 0.25) else len(turns), turn)
    return turns


def asked_alone(sample: SyntheticSample) -> Turns:
    """Questions that are each asked alone, in some samples one of them for the caption."""
    rng = generator(sample.task, sample.seed, sample.heldout, 5)
    turns = _asked(rng, sample, ALONE[sample.task])
    if rng.random() < CAPTION_SHARE:
        turns[0] = _caption_turn(rng, sample)
    return turns


def _asked(rng: Generator, sample: SyntheticSample, number: int) -> Turns:
    """At most so many of a sample's questions, some of them replaced by one that has no answer."""
    turns = []
    for index in rng.permutation(len(sample.questions))[:number]:
        question = sample.questions[index]
        text, answer = question.worded(rng), question.answer
        if rng.random() < UNKNOWN_SHARE:
            text, answer = unknown_question(rng)
        turns.append((typed(rng, text), answer))
    return turns


def _caption_turn(rng: Generator, sample: SyntheticSample) -> tuple[str, str]:
    request = {"image": "scene", "pair": "changes"}.get(sample.task, "time")
    return pick(rng, words()["requests"][request]), _caption(sample)


def _caption(sample: SyntheticSample) -> str:
    truth = sample.truth
    if sample.task == "image":
        return plain_scene(truth["cover"] or truth["background"], truth["places"])
    return plain_caption(truth["changes"], len(sample.images), video=sample.task == "video")
