"""From the downloaded LEVIR-CC to captions, on 525 of its pairs: the commands of docs/training.md."""

import json

import pytest

from btcchat.cli import main


@pytest.mark.slow
def test_the_packaged_model_learns_from_levir_cc(shared, tmp_path, capsys):
    source = shared / "data" / "levir_cc_subset"
    assert main(["data", "convert", "levir_cc", str(source), str(tmp_path / "annotations")]) == 0
    (tmp_path / "real.yaml").write_text(f"real: {{annotation: annotations/train.jsonl, images: {source}}}\n")
    from btcchat.checkpoint.hub import resolve

    flags = {
        "model_name_or_path": resolve(None),
        "data_mixture": "real",
        "data_root": tmp_path,
        "mixture_folder": tmp_path,
        "tune_mm_projector": True,
        "tune_language_model": True,
        "use_cpu": True,
        "bf16": True,
        "max_steps": 80,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "logging_steps": 5,
        "output_dir": tmp_path / "out",
        "dataloader_num_workers": 0,
        "save_steps": 80,
    }
    assert main(["train", *(word for name, value in flags.items() for word in (f"--{name}", str(value)))]) == 0
    state = json.loads((tmp_path / "out" / "checkpoint-80" / "trainer_state.json").read_text())
    curve = [entry["loss"] for entry in state["log_history"]]
    assert curve[-1] < 0.5 * curve[0]
    capsys.readouterr()
    train, val = (
        [json.loads(line) for line in (tmp_path / "annotations" / f"{split}.jsonl").read_text().splitlines()]
        for split in ("train", "val")
    )
    known = set(" ".join(row["captions"][0] for row in train).split())
    for row in val[:3]:
        pair = [str(source / image) for image in row["images"]]
        assert main(["caption", *pair, "--model", str(tmp_path / "out")]) == 0
        caption = capsys.readouterr().out.split()
        assert caption
        assert set(caption) <= known  # the data set's words, no longer those of the synthetic scenes
