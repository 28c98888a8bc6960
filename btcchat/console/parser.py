"""The parser of a command's flags."""

import argparse
import sys
from typing import Any


class HelpParser(argparse.ArgumentParser):
    """Raises OSError if its help cannot be written, e.g. on a full disk; argparse ignores that."""

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)
