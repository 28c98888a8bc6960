"""A clock for the benchmarks in this folder."""

import time
from collections.abc import Callable
from types import TracebackType

import torch


class Clock:
    """Times the parts of a model. ``calls``: the part, seconds and tokens of a row (0 except in ``llm``) of each call.

    ``llm`` is the decoder followed by the head, because generation calls these two and not the whole language model.
    wait: called before each reading of the clock, for a GPU that is still working. now: the clock. As a context manager
    it stops at the end.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        wait: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.perf_counter,
    ):
        self.wait, self.now = wait, now
        self.calls: list[tuple[str, float, int]] = []
        self._started: dict[str, float] = {}
        parts = dict(model.named_children())
        head = parts["llm"].get_output_embeddings()
        self._hooks = []
        for name, part in (parts | {"llm": parts["llm"].get_decoder(), "head": head}).items():
            self._hooks += [
                part.register_forward_pre_hook(lambda *_, name=name: self._start(name)),
                part.register_forward_hook(lambda *call, name=name: self._stop(name, call[2]), with_kwargs=True),
            ]

    def __enter__(self) -> "Clock":
        return self

    def __exit__(self, kind: type | None, fault: BaseException | None, traceback: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()

    def _start(self, name: str) -> None:
        self.wait()
        self._started[name] = self.now()

    def _stop(self, name: str, options: dict) -> None:
        self.wait()
        seconds = self.now() - self._started[name]
        if name == "head":
            name, before, tokens = self.calls.pop()
            self.calls.append((name, before + seconds, tokens))
            return
        given = [options[key] for key in ("inputs_embeds", "input_ids") if options.get(key) is not None]
        self.calls.append((name, seconds, given[0].shape[1] if given else 0))
