"""Finished run folders, made without a model: the answers are given."""

import json
from pathlib import Path

from btcchat.eval.runs.evaluate import Plan, evaluate
from btcchat.eval.runs.folder import RunFolder
from btcchat.eval.runs.ranks import Ranks
from btcchat.eval.runs.samples import read_arguments, read_sets

SETS = """
pairs: {annotation: "pairs_{split}.jsonl", images: ., splits: [train, val, test], kind: levir_cc}
mine: {annotation: pairs_val.jsonl, images: .}
questions: {annotation: questions.jsonl, images: ., kind: rsvqa_lr}
clips: {annotation: clips.jsonl, images: .}
"""


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_run(root: Path, mixture: str, answer, out: Path, *, model="a model", selected=None, row_of=dict) -> Path:
    """A run in ``out``, of ``mixture`` below ``root``, whose answers are ``answer(sample)``."""
    sets = read_sets(mixture, split="val", data_root=root, folder=root)
    run = {
        "model": {"path": str(model), "fingerprint": "f" * 64},
        "asked": read_arguments(mixture, "val", str(root), str(root)),
        "data": [{"set": s.name, "samples": len(s.samples), "sha256": s.fingerprint} for s in sets],
        "options": {"max_new_tokens": 128, "cc_head": None},
        "prompts": {"conv_version": "v1", "caption_question": "What changed?", "pair_prompt": ""},
        "selected": selected,
        "processes": 1,
        "versions": {"btcchat": "0", "torch": "2"},
    }
    folder = RunFolder(out)
    folder.start(run)
    with folder.part(0) as part:
        part.write({sample.id: answer(sample) for one in sets for sample in one.samples})
    folder.close()
    assert evaluate(lambda: None, sets, RunFolder(out), run, Ranks(), Plan(batch_size=1, row_of=row_of))
    return out
