"""``python -m btcchat``: the same as the command ``btcchat``."""

import sys

from btcchat.cli import main

sys.exit(main())
