"""What a checkpoint holds besides the model: the state of optimizer, schedule and random numbers, to resume from."""

import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator

from btcchat.errors import BTCChatError

logger = logging.getLogger(__name__)

OPTIMIZER, SCHEDULE, SCALER = "optimizer.pt", "scheduler.pt", "scaler.pt"
DEEPSPEED = "deepspeed"  # folder with the pieces of all processes


class Resumable:
    """The parts of a run that change with each step, besides the weights. model: as accelerate has wrapped it."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,  # a DeepSpeed engine has more methods than a module
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        self.accelerator, self.model, self.optimizer, self.schedule = accelerator, model, optimizer, schedule

    def save(self, folder: Path) -> None:
        """Write the state into a checkpoint's folder. Every process must call it."""
        if self._deepspeed:
            self.model.save_checkpoint(str(folder), tag=DEEPSPEED)
        if self.accelerator.is_main_process:
            if not self._deepspeed:
                torch.save(self.optimizer.state_dict(), folder / OPTIMIZER)
            torch.save(self.schedule.state_dict(), folder / SCHEDULE)
            if self.accelerator.scaler is not None:
                torch.save(self.accelerator.scaler.state_dict(), folder / SCALER)
        torch.save(random_state(), folder / random_name(self.accelerator.process_index))

    def load(self, folder: Path) -> None:
        """Read the state from a checkpoint's folder. Every process must call it.

        Raises BTCChatError for the state of another optimizer.
        """
        if self._deepspeed:
            self.model.load_checkpoint(str(folder), tag=DEEPSPEED)
        else:
            try:
                self.optimizer.load_state_dict(_load(folder / OPTIMIZER))
            except ValueError as error:  # e.g. from before norms were left out of the decay
                raise BTCChatError(
                    f"{folder / OPTIMIZER} does not fit this run's optimizer ({error}); start a new run with "
                    f"--model_name_or_path {folder}"
                ) from None
        self.schedule.load_state_dict(_load(folder / SCHEDULE))
        if self.accelerator.scaler is not None and (folder / SCALER).is_file():
            self.accelerator.scaler.load_state_dict(_load(folder / SCALER))
        own = folder / random_name(self.accelerator.process_index)
        if own.is_file():
            set_random_state(_load(own))
        else:
            logger.warning(
                "%s has no %s: the run has more processes than before, so dropout differs",
                folder,
                own.name,
            )

    @property
    def _deepspeed(self) -> bool:
        return self.accelerator.state.deepspeed_plugin is not None


def random_name(process: int) -> str:
    return f"rng_state_{process}.pth"


def random_state() -> dict[str, Any]:
    """The random state of Python, numpy and torch, as values that ``torch.load(weights_only=True)`` can read."""
    _, keys, *position = cast(tuple[Any, ...], np.random.get_state(legacy=True))
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (torch.from_numpy(keys.astype(np.int64)), *position),
        "torch": torch.get_rng_state(),
    }
    return state | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore a state that `random_state` returned."""
    keys, *position = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *position))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)
