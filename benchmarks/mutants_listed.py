"""Faults that the tests at commit a2a9ac3 did not notice, adapted to today's code. Tests must kill each of them."""

from mutations import Mutation, replaced

LISTED = [  # (file, text that occurs in it once, the faulty text, a description, the tests that must notice)
    (
        "btcchat/checkpoint/adapter.py",
        'lora_alpha=config.get("lora_alpha", 8)',
        "lora_alpha=8",
        "an adapter is read without its lora_alpha",
        "tests/checkpoint/test_adapter.py",
    ),
    (
        "btcchat/train/distributed.py",
        "torch.distributed.all_reduce(statistic)",
        "pass",
        "BatchNorm statistics are those of one process",
        "tests/train/test_statistics.py",
    ),
    (
        "btcchat/change_encoder/change_map.py",
        "(down - height) // 2, (across - width) // 2",
        "0, 0",
        "a padded change map is cropped at the corner",
        "tests/change_encoder/test_change_map.py",
    ),
    (
        "btcchat/change_encoder/change_map.py",
        "field[0, 0, top : top + height, left : left + width]",
        "field[0, 0]",
        "a padded change map is not cropped",
        "tests/change_encoder/test_change_map.py",
    ),
    (
        "btcchat/media/images.py",
        "if self.orientation != 1:",
        "if False:",
        "the EXIF rotation of a deep image is ignored",
        "tests/media/test_images.py",
        "tests/media/raster",
    ),
    (
        "btcchat/eval/maps/masks.py",
        "np.asarray(load_image(source, reading=MASK)).max(-1) > 0",
        "np.asarray(load_image(source, reading=MASK)).max(-1) > 128",
        "128 in a mask does not count as a change",
        "tests/eval/test_masks.py",
    ),
    (
        "btcchat/data/mixture/hashes.py",
        "if (size, time) != (state.st_size, state.st_mtime_ns):",
        "if size != state.st_size:",
        "a file that is rewritten with the same size keeps its hash",
        "tests/data/test_hashes.py",
    ),
    (
        "btcchat/train/feature_cache.py",
        'f"{tuple(frame.shape)} ".encode() + frame',
        "frame",
        "equal bytes of another shape are the same frame",
        "tests/train/test_vision_cache.py",
    ),
    (
        "btcchat/train/feature_cache.py",
        "            part.write_bytes(data)",
        "            path.write_bytes(data)",
        "the feature cache is written in place",
        "tests/train/test_vision_cache.py",
    ),
    (
        "btcchat/files.py",
        "        part.write_bytes(_encoded(text))",
        "        Path(path).write_bytes(_encoded(text))",
        "a file of a run folder is written in place",
        "tests/test_files.py",
        "tests/eval/test_run.py",
    ),
    (
        "btcchat/checkpoint/save.py",
        '    (folder / "config.json").unlink(missing_ok=True)\n    for part',
        "    for part",
        "config.json stays while the parts are replaced",
        "tests/checkpoint/test_save.py",
    ),
    (
        "btcchat/train/trainer.py",
        "parameter.grad = torch.zeros_like(parameter)",
        "pass",
        "a part without samples has no gradient of zero",
        "tests/train/test_steps.py",
        "tests/train/test_rates.py",
    ),
    (
        "btcchat/eval/runs/answer.py",
        "seed=_seed(self.options.seed, sample.id)",
        "seed=self.options.seed",
        "every sample is drawn with the same seed",
        "tests/eval/test_run.py",
    ),
    (
        "btcchat/eval/captions/changes.py",
        "return flags if len(flags) == len(rows) else [",
        "return [",
        "the flags of the data are not used",
        "tests/eval/test_changes.py",
        "tests/eval/test_score.py",
    ),
    (
        "btcchat/data/changed.py",
        "2 * sum(unchanged) <= len(unchanged)",
        "2 * sum(unchanged) < len(unchanged)",
        "divided references count as unchanged",
        "tests/eval/test_changes.py",
    ),
    (
        "btcchat/media/page.py",
        "{escape(text)}{f",
        "{text}{f",
        "the text of a table's cell is not escaped",
        "tests/media/test_page.py",
    ),
    (
        "btcchat/media/page.py",
        "{escape(small)}",
        "{small}",
        "the small text of a table's cell is not escaped",
        "tests/media/test_page.py",
    ),
    (
        "btcchat/eval/runs/answer.py",
        "zip(seen.samples, texts, strict=True) if s.id not",
        "zip(sorted(seen.samples, key=lambda s: s.id), texts, strict=True) if s.id not",
        "answers go to the samples in the order of their ids",
        "tests/eval/test_run.py",
    ),
]


def listed() -> list[Mutation]:
    """The mutations. Raises ValueError if the code has changed, so that a fault no longer fits."""
    return [replaced(*row) for row in LISTED]
