"""What every row gets. Imports only the standard library, like the parent process."""

import importlib
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Setting:
    """tiny: small models on the CPU, to try the script. golden: the folder of golden sets, or ""."""

    tiny: bool = False
    golden: str = ""

    @property
    def device(self) -> str:
        return "cpu" if self.tiny else "cuda"


class NotRunError(Exception):
    """The row cannot be measured here; the text says why."""


def need(package: str) -> ModuleType:
    """The imported package. Raises NotRunError where it is missing."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as fault:
        raise NotRunError(f"{fault.name} is missing") from None
