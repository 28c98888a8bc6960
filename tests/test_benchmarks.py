"""The benchmarks run at toy sizes and print what they should; their numbers are not tested."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_model

import ablate_clues
import bf16_cpu
import full_size
import generate
import growth
import inputs
import mutants_listed
import preprocess
import quantize
import records
import relayout
import score
import serve
import small_minutes
import startup
import tiny_minutes
import trace_files
import train_step
from benchmarks import scenes  # tests/media has a module of this name
from btcchat.checkpoint.weights import weight_files
from btcchat.eval.captions.predictions import Prediction
from btcchat.eval.encoders.markdown import table
from btcchat.synthetic.write import SampleCounts, write_dataset


def test_a_table_is_markdown_with_aligned_columns():
    lines = table(["a", "long head"], [("cell", "1")]).splitlines()
    assert lines == ["| a    | long head |", "|------|-----------|", "| cell | 1         |"]


def test_the_full_size_model_is_written_sharded_then_loaded_and_asked(tmp_path, monkeypatch, capsys):
    small = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    monkeypatch.setattr(full_size, "LLM", full_size.LLM | small)
    monkeypatch.setattr(full_size, "VISION", full_size.VISION | small | {"image_size": 70})
    monkeypatch.setattr(full_size, "SHARD", "1MB")
    folder = tmp_path / "big"
    monkeypatch.setattr(sys, "argv", ["full_size.py", str(folder), "--new-tokens", "3", "--remove"])
    full_size.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("This writes about 7 GB"), "the disk space that it needs is printed first"
    printed = "\n".join(lines)
    assert "2 x 25 from the tower -> 25 change tokens -> 9 in the prompt" in printed
    for row in ("peak memory of loading", "vision (2 images)", "change encoder", "prefill", "per token (mean of 2)"):
        assert row in printed
    assert not folder.exists()


def test_the_full_size_model_is_sharded_bfloat16(tmp_path, monkeypatch):
    small = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    monkeypatch.setattr(full_size, "LLM", full_size.LLM | small)
    monkeypatch.setattr(full_size, "VISION", full_size.VISION | small | {"image_size": 70})
    monkeypatch.setattr(full_size, "SHARD", "1MB")
    full_size.write(tmp_path / "big")
    assert len(weight_files(tmp_path / "big" / "llm")) > 1
    parameters = 2 * 32000 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 96 + 2 * 64) + 64
    size = sum(file.stat().st_size for file in weight_files(tmp_path / "big" / "llm"))
    assert 2 * parameters <= size < 2 * parameters + 50_000  # two bytes per weight, plus headers


def test_a_disk_that_is_too_small_is_an_error_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**9))
    monkeypatch.setattr(sys, "argv", ["full_size.py", str(tmp_path / "big")])
    with pytest.raises(SystemExit, match="1.0 GB free, 7 GB are needed"):
        full_size.main()
    assert not (tmp_path / "big").exists()


def test_an_existing_folder_is_neither_written_to_nor_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(relayout.subprocess, "run", lambda *_, **__: pytest.fail("something was written"))
    (tmp_path / "mine").write_text("keep")
    for folder in (tmp_path, tmp_path / "mine"):
        monkeypatch.setattr(sys, "argv", ["relayout.py", str(folder)])
        with pytest.raises(SystemExit, match=f"{folder} already exists; give a new folder"):
            relayout.main()
    assert (tmp_path / "mine").read_text() == "keep"


def test_startup_times_whole_processes(monkeypatch, capsys):
    monkeypatch.setattr(startup, "COMMANDS", [(["--help"], 0.0), (["--version"], 1000.0)])
    monkeypatch.setattr(startup, "IMPORTS", "import os")
    monkeypatch.setattr(sys, "argv", ["startup.py", "--repeats", "2"])
    if not startup.find_command():
        pytest.skip("the command btcchat is not installed in this environment")
    startup.main()
    rows = capsys.readouterr().out.splitlines()
    assert rows[2].startswith("| btcchat --help") and rows[2].endswith("| missed |")
    assert rows[3].startswith("| btcchat --version") and rows[3].endswith("| met    |")
    assert rows[4].startswith("| python -c 'import os'")
    assert re.fullmatch(r"btcchat --version: [\d.]+ times the imports \(goal 1.5: \w+\)", rows[6])


@pytest.mark.slow
def test_the_minutes_of_the_tiny_recipe_are_estimated_from_a_few_steps(tmp_path, capsys):
    tiny_model(tmp_path, change_encoder=None).save_pretrained(tmp_path / "0_init")
    (tmp_path / "1_align").symlink_to("0_init")
    tiny_model(tmp_path).save_pretrained(tmp_path / "2_change_encoder")
    (tmp_path / "3_llm").symlink_to("2_change_encoder")
    write_dataset(tmp_path / "data" / "synthetic", SampleCounts(pairs=32, images=64, series=16, videos=16), seed=2)
    assert tiny_minutes.main([str(tmp_path), "--steps", "5"]) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:-1]]
    # 77, 62 and 126 samples in batches of 16, one and a half epochs of 136 in batches of 32
    steps = {"1_align": "5", "2_change_encoder": "4", "3_llm": "8", "4_questions": "8"}
    assert [row[:2] for row in rows] == [*map(list, steps.items()), ["all", ""]]
    assert float(rows[-1][3]) == pytest.approx(sum(float(row[3]) for row in rows[:-1]), abs=0.2)


def test_the_operators_are_compared(monkeypatch, capsys):
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    assert bf16_cpu.main(["--repeats", "1"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:-1]
    assert len(rows) == len(bf16_cpu.CASES) and all(float(row.split("|")[-2]) < 0.05 for row in rows)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_scene_is_read_in_a_separate_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["inputs.py", "--side", "1100"])
    inputs.main()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:5]]
    assert [row[1].strip() for row in rows] == ["512 x 512", "1100 x 1100", "1100 x 1100"]
    assert all(20 < float(row[2]) < 2000 for row in rows)


def test_annotation_files_are_measured(tmp_path):
    records.write(tmp_path / "rows.jsonl", 50)
    found = records.measure(tmp_path / "rows.jsonl")
    assert found["rows"] == 50 and found["kept"] < 50


def test_the_ablation_of_clues_trains_and_scores_each_way(tmp_path, capsys):
    tiny_model(tmp_path).save_pretrained(tmp_path / "model")
    words = ["--model", str(tmp_path / "model"), "--clue_model", str(tmp_path / "model"), "--true_clues"]
    words += ["--train", "6", "--test", "4", "--steps", "2", "--batch", "3"]
    assert ablate_clues.main(words) == 0
    out = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out if line.startswith("|")]
    assert rows[0] == ["trained with", "served with", "loss", *ablate_clues.MEASURES]
    assert [row[:2] for row in rows[2:]] == [
        ["no clues", "no clues"],
        ["clues, 0.3 dropped", "clues"],
        ["clues, 0.3 dropped", "no clues"],
        ["true clues", "true clues"],
    ]
    assert rows[2][2] != rows[3][2]  # the clues are in the prompts
    assert out[-3].startswith("clue 1: ")


def test_an_ablation_that_cannot_run_is_an_error_of_one_line(tmp_path):
    with pytest.raises(SystemExit, match="ablate_clues.py: error: no model at"):
        ablate_clues.main(["--train", "2", "--test", "1", "--model", str(tmp_path / "none")])


def test_all_variants_of_a_training_step_have_the_same_loss():
    words = ["--small", "--samples", "6", "--batch-size", "2", "--max-tokens", "700", "--dtype", "float32"]
    found = {way: train_step.measure(way, train_step.arguments(words)) for way in train_step.WAYS}
    assert found["btcchat"]["loss"] == pytest.approx(found["published"]["loss"], abs=1e-4)
    for way in (train_step.CACHED, train_step.MEMORY):
        assert found[way]["loss"] == pytest.approx(found["published"]["loss"], abs=1e-4)
    assert found[train_step.MEMORY]["batches"] > found["btcchat"]["batches"]
    assert found["published"]["batches"] == 3


def test_the_files_entered_by_a_caption_are_listed(capsys):
    assert trace_files.main([]) == 0
    caption, *lines, entered, count = capsys.readouterr().out.splitlines()
    files = {}
    for line in lines:
        head, functions = line.split(": ", 1)
        group, name = head.split()
        files[name] = group, functions
    assert "pond was filled in" in caption and entered.startswith(f"{len(files)} files are entered: ")
    assert files["merge.py"] == ("step", "merge, _to") and "Processor.__call__" in files["processor.py"][1]
    assert files["checkpoint/hub.py"][0] == "loading" and "data/loader.py" not in files
    assert files["change_encoder/attentive.py"][0] == "part"
    way = [name for name, (group, _) in files.items() if group == "way"]
    assert {"cli.py", "api.py", "processor.py", "model.py", "generation.py"} < set(way)
    assert count == f"{len(way)} files" and len(way) <= 12


def test_preprocessing_is_timed_against_hugging_faces_processor(tmp_path, capsys):
    values = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)
    for number, value in enumerate(values):
        Image.fromarray(value).save(tmp_path / f"{number}.png")
    preprocess.main([str(tmp_path), "--side", "56", "--repeats", "1"])
    out = capsys.readouterr().out
    assert out.startswith("4 images of 40 x 40 to 56 x 56; ")
    assert "| btcchat" in out and "ImageProcessor, transformers " in out
    assert out.splitlines()[-1] in [
        f"largest difference {n} of 255 (goal 1)" for n in ("0 grey levels", "1 grey level")
    ]
    with pytest.raises(SystemExit):
        preprocess.main([str(tmp_path / "..")])


def test_captions_are_timed_by_part_and_against_the_published_code(capsys):
    sizes = ["--smoke", "--pairs", "3", "--batches", "1", "2", "--dtypes", "float32", "--threads", "1", "--turns", "2"]
    generate.main([*sizes, "--as-published", "--int8"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 pairs, 60 tokens of prompt, 16 new ones")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert rows[0] == ["way", "captions/s", "over published", *generate.PARTS, "peak MiB"]
    ways = ["batch 1", "batch 2", "int8, batch 1", "int8, batch 2", "as published"]
    assert [row[0] for row in rows[2:]] == ways and rows[-1][2] == "1.00x"
    assert "batch 2: 3 of 3 captions equal those of batch 1" in lines
    assert "as published: 3 of 3 captions equal those of batch 1" in lines
    assert any(line.startswith("best, batch") and "the published way (goal 2.0x: " in line for line in lines)
    assert any(line.startswith("best, int8, batch") and "the published way (goal 6.0x: " in line for line in lines)


def test_the_minutes_of_the_small_model_are_scaled_from_a_few_steps():
    names, minutes = zip(*small_minutes.scaled(525, batch=24, epochs=10, seconds=(0.6, 3.0, 2.0)), strict=True)
    assert "features of 525 pairs" in names[0] and "170 steps of 24 pairs" in names[1] and "131 pairs" in names[2]
    assert minutes == ("5.2", "8.5", "4.4")


@pytest.mark.slow
def test_scoring_is_timed_and_compared_with_pycocoevalcap(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pycocoevalcap", reason="needs the extra eval, which dev includes")
    captions = ["many houses are built", "no change has occurred", "trees disappear"]
    rows = [{"id": n, "prediction": "many houses appear", "references": captions[n:]} for n in range(3)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("PATH", os.environ["PATH"])  # the benchmark changes it
    score.main([str(tmp_path / "p.jsonl"), "--presets", "levir-cc", "--repeats", "1"])
    lines = capsys.readouterr().out.splitlines()
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert cells[0] == "levir-cc" and float(cells[-1]) < 1e-3
    assert "3 predictions x 3 references" in lines[-2] and lines[-1].startswith("goal: at least 2x faster")


def test_the_products_of_a_pair_are_counted_from_the_sizes():
    model = generate.build(generate.SMALL, generate.DTYPES["float32"])
    found = generate.work(model, generate.SMALL)
    vision = 2 * 2 * (16 * 3 * 14**2 * 32 + 2 * (12 * 16 * 32**2 + 2 * 16**2 * 32)) / 1e9  # 2 images, 2 layers of 3
    assert found["vision"] == pytest.approx(vision) and set(found) == set(generate.PARTS)
    assert model.layout.change_tokens == 4
    assert found["projector"] == pytest.approx(2 * 4 * (4 * 32 * 32 + 32 * 32) / 1e9)


def test_scenes_are_created_run_and_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scenes.py", "--sides", "300", "--memory"])
    scenes.main()
    assert "| 300           |" in capsys.readouterr().out


@pytest.mark.slow
def test_the_server_is_measured_with_batched_and_with_single_answers(capsys):
    sizes = ["--tokens", "4", "--clients", "2", "--requests", "4", "--long", "8", "--settle", "0.1"]
    serve.main(["--smoke", *sizes, "--memory-requests", "20"])
    printed = capsys.readouterr().out
    for words in ("| together ", "| one at a time ", "4 new tokens, 2 clients: ", "first token alone", "MiB after 20;"):
        assert words in printed


def test_growth_has_a_row_per_size_and_an_exponent(monkeypatch, capsys):
    measured = {(kind, size): (1 + size / 1000, 100.0) for kind in growth.WORK for size in (growth.SMALLEST, 100, 1000)}
    monkeypatch.setattr(growth, "write_pairs", lambda folder: None)
    monkeypatch.setattr(growth, "measure", lambda folder, kind, size: measured[kind, size])
    growth.main(["--captions", "100", "1000", "--checks", "--scores", "100"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == ["caption", "caption", "score"]
    assert lines[3].split("|")[5].strip() == "1.04"  # 0.99 s after 0.09 s


def test_growth_runs_the_commands_that_it_names(tmp_path):
    growth.write_pairs(tmp_path)
    for kind in ("caption", "data check"):  # score: needs Java for a second
        seconds, peak = growth.measure(tmp_path, kind, 3)
        assert seconds > 0 and peak > 0


def test_quantize_compares_operators_and_speed(capsys):
    quantize.main(["operators", "--sizes", "1", "--repeats", "1"])
    assert "int8: oneDNN qlinear, a scale a row (btcchat)" in capsys.readouterr().out
    words = "speed --width 64 --layers 1 --batch 1 --new-tokens 1 --repeats 1"
    quantize.main(words.split())
    assert "bfloat16, int4" in capsys.readouterr().out


def test_quantize_compares_captions_pair_by_pair():
    references = ("a road is built .",) * 5
    rows = [Prediction(str(n), "a road is built .", references, changed=True, place="") for n in range(4)]
    printed = quantize.differences({kind: [rows] for kind in (quantize.PLAIN, *quantize.KINDS)})
    assert "4 of 4" in printed and "+0.0 (+0.0 to +0.0" in printed


def test_each_listed_mutation_still_has_its_place_in_the_code():
    found = mutants_listed.listed()
    assert len(found) == len(mutants_listed.LISTED)
    assert all((Path(__file__).parents[1] / test).exists() for mutation in found for test in mutation.tests)
