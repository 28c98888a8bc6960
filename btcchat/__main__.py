"""``python -m btcchat``: the same as the command ``btcchat``."""

import os
import sys

from btcchat.cli import main

code = main()
if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # under torchrun or deepspeed
    from btcchat.train.distributed import end_process

    end_process(code)
sys.exit(code)
