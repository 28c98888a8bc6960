"""The versions of transformers that the whole suite was run on: both ends of what setup.py allows, and one between."""

import functools
import logging

logger = logging.getLogger(__name__)

TESTED = ("4.36", "4.57", "5.24")  # constraints/pinned.txt has the first, constraints/current.txt the last


@functools.cache  # one line a process
def warn_untested() -> None:
    """Warn where another release of transformers is installed than those in ``TESTED``."""
    import transformers

    if ".".join(transformers.__version__.split(".")[:2]) not in TESTED:
        logger.warning(
            "transformers %s is installed; btcchat was tested with %s (constraints/ has two complete tested sets)",
            transformers.__version__,
            ", ".join(TESTED),
        )
