"""The entry of every recipe: ``python btcchat/train/train_mem.py --model_name_or_path ... --data_mixture ...``.

Memory-lean: the allocator's setting must be in place before torch is imported, so it is made here.
"""

import logging
import os
import sys


def main(argv: list[str] | None = None) -> int:
    # Batches of many lengths fragment CUDA memory; segments that can grow waste less of it.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("btcchat").setLevel(logging.INFO)
    from btcchat.errors import BTCChatError

    try:
        from btcchat.train.arguments import parse_arguments

        arguments = parse_arguments(argv)
        from btcchat.train.train import train

        train(*arguments)
    except BTCChatError as error:
        # An error of a DataLoader worker carries that process's traceback; its last line is the message.
        last_line = str(error).strip().splitlines()[-1]
        print(f"btcchat: error: {last_line.removeprefix('btcchat.errors.BTCChatError: ')}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
