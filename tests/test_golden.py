"""Our numbers match those of the published code, and the check that compares them can fail."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import golden


def rows_of(output: str, name: str) -> str:
    """The lines printed for one set."""
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(name))
    end = next((i for i in range(start + 1, len(lines)) if not lines[i].startswith(" ")), len(lines))
    return "\n".join(lines[start:end])


def test_every_set_of_the_golden_folder_passes(shared, capsys):
    assert golden.main([str(shared / "golden")]) == 0
    output = capsys.readouterr().out
    for kind in ("attentive_n0", "attentive_n2", "projector/", "downsample/odd", "downsample/even", "siglip"):
        assert f"unirs/{kind}" in output
    assert "unirs/checkpoint_golden.json" in output
    assert "unirs/preprocess.json" in output
    assert "ccexpert/resampler" in output
    assert "ccexpert/checkpoint_golden.json" in output
    assert "FAIL" not in output


def test_a_folder_without_sets_does_not_pass(tmp_path, capsys):
    assert golden.main([str(tmp_path)]) == 1
    assert "no golden set" in capsys.readouterr().out


def shift(file, key, by, at=-1):
    tensors = load_file(file)
    tensors[key].view(-1)[at] += by
    save_file(tensors, file)


def edit(file, change):
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def rename(file):
    tensors = load_file(file)
    tensors["layers.9.bias"] = tensors.pop("layers.1.bias")
    save_file(tensors, file)


NAN = float("nan")
# fault -> (the set that must fail, the file, the change to it)
PERTURBATIONS = {
    "change tokens off by 3e-4": ("attentive_n2", "io.safetensors", lambda f: shift(f, "output", 3e-4)),
    "a weight off by 0.01": ("attentive_n0", "state_dict.safetensors", lambda f: shift(f, "Conv1.bias", 0.01)),
    "heads 4 for 8": ("attentive_n2", "config.json", lambda f: edit(f, lambda c: c["constructor"].update(heads=4))),
    "a weight renamed": ("downsample/odd", "state_dict.safetensors", rename),
    "features off by 3e-5": ("siglip", "io.safetensors", lambda f: shift(f, "hidden_states.2", 3e-5)),
    "two grey levels": ("siglip", "pixel_values.safetensors", lambda f: shift(f, "pad/wide.png", 2 / 127.5)),
    "a position moved": ("siglip", "resize_pos.safetensors", lambda f: shift(f, "r112.position_embedding", 3e-5, -65)),
    "not a number": ("downsample/even", "io.safetensors", lambda f: shift(f, "output_vila_main", NAN)),
    "a label lost": (
        "preprocess.json",
        "",
        lambda f: edit(f, lambda g: g["cases"][0]["labels"].__setitem__(-1, -100)),
    ),
}


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_perturbed_number_fails(name, shared, tmp_path, capsys, monkeypatch):
    where, file, perturb = PERTURBATIONS[name]
    folder = copy(shared, tmp_path)
    perturb(folder / "unirs" / where / file)
    monkeypatch.setattr(golden, "CHECKS", {k: v for k, v in golden.CHECKS.items() if "checkpoint" not in k})
    assert golden.main([str(folder)]) == 1
    output = capsys.readouterr().out
    assert "FAIL" in rows_of(output, f"unirs/{where}")
    assert output.count("FAIL") == rows_of(output, f"unirs/{where}").count("FAIL"), "no other set fails"


@pytest.mark.parametrize("what", ["greedy ids", "ids and labels", "losses", "logits", "pixels", "texts"])
def test_a_perturbed_checkpoint_number_fails(what, shared, tmp_path, capsys, monkeypatch):
    folder = copy(shared, tmp_path)
    file = folder / "unirs" / "checkpoint_golden.json"
    if what == "greedy ids":
        edit(file, lambda g: g["cases"][1]["greedy_ids"].__setitem__(-1, 7))
    elif what == "ids and labels":
        edit(file, lambda g: g["cases"][2]["train_labels"].__setitem__(-1, -100))
    elif what == "losses":
        edit(file, lambda g: g["cases"][0].update(loss=g["cases"][0]["loss"] + 2e-4))
    elif what == "texts":
        edit(file, lambda g: g["cases"][0].update(prompt=g["cases"][0]["prompt"] + " "))
    elif what == "logits":
        shift(file.with_suffix(".safetensors"), "pair_a.logits_tail", 2e-4)
    else:
        shift(file.with_suffix(".safetensors"), "single.pixel_values", 2 / 127.5)
    monkeypatch.setattr(golden, "CHECKS", {k: v for k, v in golden.CHECKS.items() if "checkpoint" in k})
    assert golden.main([str(folder)]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if "FAIL" in line]
    assert any(what in line for line in failed)


CCEXPERT = {
    "change tokens off by 3e-4": ("resampler", lambda f: shift(f / "resampler/io.safetensors", "output_change", 3e-4)),
    "a gate off by 3e-5": ("resampler", lambda f: shift(f / "resampler/io.safetensors", "gates", 3e-5)),
    "a label lost": (
        "checkpoint_golden.json",
        lambda f: edit(f / "checkpoint_golden.json", lambda g: g["preprocess"][0]["labels"].__setitem__(-1, -100)),
    ),
    "logits off by 2e-4": (
        "checkpoint_golden.json",
        lambda f: shift(f / "checkpoint_golden.safetensors", "s1.logits", 2e-4),
    ),
    "another new token": (
        "checkpoint_golden.json",
        lambda f: edit(f / "checkpoint_golden.json", lambda g: g["cases"][0]["greedy_ids"].__setitem__(-1, 7)),
    ),
}


@pytest.mark.parametrize("name", CCEXPERT)
def test_a_perturbed_number_of_ccexpert_fails(name, shared, tmp_path, capsys):
    where, perturb = CCEXPERT[name]
    perturb(copy(shared, tmp_path, "ccexpert") / "ccexpert")
    assert golden.main([str(tmp_path / "golden")]) == 1
    output = capsys.readouterr().out
    assert output.count("FAIL") == rows_of(output, f"ccexpert/{where}").count("FAIL") == 1


def copy(shared, tmp_path, system="unirs"):
    shutil.copytree(shared / "golden" / system, tmp_path / "golden" / system, copy_function=shutil.copyfile)
    for folder in (tmp_path / "golden").rglob("*"):
        folder.chmod(0o755 if folder.is_dir() else 0o644)  # the shared folder is read-only
    return tmp_path / "golden"


def test_gradients_have_not_changed(tmp_path):
    golden.main([str(tmp_path)])
    assert torch.is_grad_enabled()
