"""The versions of transformers that the tests were run on: the oldest and newest in setup.py, and one in between."""

import functools
import logging

logger = logging.getLogger(__name__)

TESTED = ("4.36", "4.57", "5.24")  # constraints/pinned.txt has the first, constraints/current.txt the last


@functools.cache  # one line per process
def warn_untested() -> None:
    """Warn if the installed release of transformers is not in ``TESTED``."""
    import transformers

    if ".".join(transformers.__version__.split(".")[:2]) not in TESTED:
        logger.warning(
            "transformers %s is installed; btcchat was tested with %s (constraints/ has two complete tested sets)",
            transformers.__version__,
            ", ".join(TESTED),
        )
