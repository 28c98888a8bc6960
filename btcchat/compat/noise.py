"""Silence warnings and progress bars of libraries that a user can do nothing about."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

KNOWN = (  # beginnings of the messages, as regular expressions
    r".*_register_pytree_node",  # transformers 4.36 on torch from 2.2
    r"`broadcast_buffers` is deprecated",  # torch from 2.13, about an argument that accelerate passes
    r"`resume_download`",  # huggingface_hub from 0.23, about one that transformers 4.36 passes
)


def ignore_known_warnings() -> None:
    """Ignore ``KNOWN`` in the current context of ``warnings``, or in the whole process."""
    for message in KNOWN:
        warnings.filterwarnings("ignore", message, FutureWarning)


@contextmanager
def quiet_import() -> Iterator[None]:
    """Ignore known warnings around the first import of transformers."""
    with warnings.catch_warnings():
        ignore_known_warnings()
        yield


@contextmanager
def no_bars() -> Iterator[None]:
    """Hide the progress bar that transformers from 5.0 draws while it writes a file of weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
