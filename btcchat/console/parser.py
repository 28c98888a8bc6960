"""Flags of a command."""

import argparse
import sys
from typing import Any


class HelpParser(argparse.ArgumentParser):
    """Raises OSError where its help cannot be written, as on a full disk; argparse ignores that."""

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)
