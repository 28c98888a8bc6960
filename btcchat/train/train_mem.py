"""The entry of every recipe: ``python btcchat/train/train_mem.py --model_name_or_path ... --data_mixture ...``.

It sets the CUDA allocator's option, which must be set before torch is imported.
"""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from btcchat.console.messages import Formatter
from btcchat.console.signals import clean_exit


@clean_exit
def main(argv: list[str] | None = None) -> int:
    """As a script: log to stderr, an error as one line; the exit code is that of `console.ending`."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("btcchat").setLevel(logging.INFO)
    from btcchat.console import ending

    def command() -> int:
        run(sys.argv[1:] if argv is None else argv)
        return 0

    return ending.run(command, lambda message: print(f"btcchat: error: {message}", file=sys.stderr))


def run(argv: list[str], plugins: Sequence[str] = ()) -> None:
    """Train as the flags say. plugins: those of ``--plugin`` that are not in ``argv``. Raises BTCChatError."""
    # Batches of many lengths fragment CUDA memory; segments that can grow waste less of it.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    from btcchat.compat.noise import ignore_known_warnings
    from btcchat.errors import BTCChatError
    from btcchat.plugins import enable_flags, take_flags
    from btcchat.train.extras import check_extras

    ignore_known_warnings()
    modules, argv = take_flags(argv)
    check_extras(argv)
    enable_flags([*plugins, *modules])
    from btcchat.train.flags import parse_arguments
    from btcchat.train.presets import expand

    arguments = parse_arguments(expand(argv))
    from btcchat.train.train import train

    try:
        train(*arguments)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_interrupted(arguments[2].output_dir)) from None
    except BTCChatError as error:
        # An error of a DataLoader worker carries that process's traceback; its last line is the message.
        last_line = str(error.args[0]).strip().splitlines()[-1]
        raise BTCChatError(last_line.removeprefix("btcchat.errors.BTCChatError: ")) from error
    except OSError as error:  # e.g. a full disk, or a folder without write permission
        way_out = "fix this, then rerun with --resume True to continue from the last checkpoint, if there is one"
        raise BTCChatError(f"the run has stopped: {error}; {way_out}") from error


def _interrupted(output_dir: str) -> str:
    from btcchat.train.checkpoints import checkpoints, fault

    complete = [path for path in checkpoints(Path(output_dir)) if fault(path) is None]
    if not complete:
        return f"interrupted; {output_dir} has no checkpoint yet. Run the same command again to start over"
    return f"interrupted; run the same command with --resume True to continue from {complete[-1]}"


if __name__ == "__main__":
    if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):  # run by its path, as published
        del sys.path[0]  # or a plugin called encoder would be this folder's encoder.py
    code = main()
    from btcchat.train.distributed import end_process

    end_process(code)
