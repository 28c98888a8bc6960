"""How far a run has got, and its log: trainer_state.json."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict  # pydantic requires this one on Python < 3.12

from btcchat.files import read_json, write_json
from btcchat.limits.schema import Number

NAME = "trainer_state.json"  # the name under which transformers and its tools know it


class StateFile(TypedDict):
    """The part of trainer_state.json that this package reads."""

    max_steps: int
    global_step: Annotated[int, Field(ge=0)]
    epoch: Number
    log_history: list[dict[str, Any]]


@dataclass
class TrainState:
    """global_step: optimizer steps so far, of ``max_steps``. log_history: every log line, oldest first."""

    max_steps: int = 0
    global_step: int = 0
    epoch: float = 0.0
    log_history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> "TrainState":
        """Read a checkpoint's state, which transformers' Trainer may have written."""
        state = read_json(folder / NAME, schema=StateFile)
        return cls(state["max_steps"], state["global_step"], state["epoch"], state["log_history"])

    def write(self, folder: Path) -> None:
        write_json(folder / NAME, asdict(self))
