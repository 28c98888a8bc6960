"""Warnings and progress bars of libraries about their own parts: nothing that a user could act on."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

KNOWN = (  # beginnings of the messages, as regular expressions
    r".*_register_pytree_node",  # transformers 4.36 on torch from 2.2
    r"`broadcast_buffers` is deprecated",  # torch from 2.13, of what accelerate passes
    r"`resume_download`",  # huggingface_hub from 0.23, of what transformers 4.36 passes
)


def ignore_known_warnings() -> None:
    """In the current context of ``warnings``, or for the whole process."""
    for message in KNOWN:
        warnings.filterwarnings("ignore", message, FutureWarning)


@contextmanager
def quiet_import() -> Iterator[None]:
    """Around the first import of transformers."""
    with warnings.catch_warnings():
        ignore_known_warnings()
        yield


@contextmanager
def no_bars() -> Iterator[None]:
    """Without the bar that transformers from 5.0 draws while it writes a file of weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
