"""A fake model that answers at once by repeating its input, for tests of everything around a model."""

from types import SimpleNamespace

from btcchat.media import Reading, load_frames


class FakeModel:
    """Reads images like the real one; ``calls`` has the keyword options of every call."""

    def __init__(self, stop_after: int | None = None):
        self.config = SimpleNamespace(num_video_frames=4, caption_question="caption", pair_prompt="")
        self.processor = SimpleNamespace(reading=Reading())
        self.calls, self.batches = [], []
        self.stop_after = stop_after  # answered batches before a kill
        self.closed = 0  # streams that ended, or were stopped

    def caption(self, before, after, **options):
        return self.ask("caption", pair=(before, after), **options)

    def ask(self, question, **options):
        self.calls.append({"question": question, **options})
        modality = next(name for name in ("image", "pair", "series", "video") if name in options)
        frames = load_frames(modality, options[modality], self.config.num_video_frames)
        return f"{question}: {modality} {' '.join(f'{f.width}x{f.height}' for f in frames)}"

    def stream(self, question, **options):
        try:
            for word in self.ask(question, **options).split(" "):
                if word == "interrupt":
                    raise KeyboardInterrupt
                yield word + " "
        finally:
            self.closed += 1

    def answer(self, records, options):
        if self.stop_after is not None and len(self.batches) >= self.stop_after:
            raise KeyboardInterrupt
        self.batches.append(len(records))
        return [f"{record.sources[0].width} to {record.sources[1].width}" for record in records]
