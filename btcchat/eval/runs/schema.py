"""The fields that are read from the JSON files of a run folder and the selection.json of a checkpoint."""

from typing import Any, Literal, TypeAlias

from typing_extensions import NotRequired, TypedDict  # pydantic accepts no other on Python < 3.12

from btcchat.checkpoint.facts import ModelParts
from btcchat.eval.answers.answers import ClassTable, GroupScores
from btcchat.eval.captions.card import ScoreCard
from btcchat.eval.maps.masks import ThresholdScores

# selection.json: by which score on which sets a checkpoint was chosen during training, and where the training ran.
Selection = TypedDict(
    "Selection",
    {
        "metric": str,
        "value": float,
        "step": int,
        "sets": list[str],
        "test splits": list[str],
        "precision": NotRequired[str],  # not in models of older versions
    },
)


class _Parts(TypedDict, total=False):
    parts: ModelParts  # not in runs of older versions


class RunModel(_Parts):
    """The model in run.json."""

    path: str
    fingerprint: str


class RunData(TypedDict):
    """One data set in run.json."""

    set: str  # its name
    samples: int
    sha256: str  # of all rows


class RunFile(TypedDict, total=False):
    """run.json."""

    model: RunModel
    data: list[RunData]
    asked: dict[str, Any] | None  # the arguments of `read_sets`; not in runs of older versions
    options: dict[str, Any]
    prompts: dict[str, str] | None
    versions: dict[str, str]
    processes: int
    selected: Selection | None
    finished: bool


class SetHead(TypedDict):
    kind: Literal["captions", "questions", "classes"]
    samples: int


class MetricsFile(TypedDict, total=False):
    """metrics.json; the further fields of each set depend on its kind."""

    preset: str
    selected: Selection | None
    sets: dict[str, SetHead]


QuestionScores = TypedDict("QuestionScores", {"in ranges": str | None, "scores": dict[str, GroupScores]})
_Head = TypedDict("_Head", {"samples": int, "test split": bool, "data kind": str | None})


class _Maps(TypedDict, total=False):
    change_map: ThresholdScores  # with --masks, for a set of pairs


class CaptionSet(_Head, ScoreCard, _Maps):
    """A set of captions in metrics.json."""

    kind: Literal["captions"]


class QuestionSet(_Head, QuestionScores, _Maps):
    """A set of questions in metrics.json."""

    kind: Literal["questions"]


class ClassSet(_Head, ClassTable, _Maps):
    """A set of classes in metrics.json."""

    kind: Literal["classes"]


SetScores: TypeAlias = CaptionSet | QuestionSet | ClassSet
