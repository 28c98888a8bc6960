"""benchmarks/gpu.py without a GPU: rows cannot affect each other, the report is always complete, toy sizes run."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from test_golden import copy, shift

import gpu
from btcchat.layers.quantized import cpu
from gpu_rows import (
    attention,
    captions,
    decoding,
    golden_numbers,
    one_process,
    pack,
    quantized,
    speed,
    training,
    versions,
)
from gpu_rows.child import Row
from gpu_rows.setting import NotRunError, Setting, need

TINY = Setting(tiny=True)
BENCHMARKS = Path(gpu.__file__).parent
ROWS = """
import os, signal, sys, time
from gpu_rows.setting import need

def good(setting, word="measured"):
    yield "half"
    yield f"{word} on {setting.device}"

def bad(setting):
    yield "before the fault"
    raise RuntimeError("out | of memory")

def killed(setting):
    os.kill(os.getpid(), signal.SIGKILL)
    yield

def missing(setting):
    need("no_such_package_here")
    yield

def broken(setting):
    import no_such_package_here
    yield

def endless(setting):
    yield "a first number"
    time.sleep(60)
"""


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """name -> a Row of the module above, which imports no torch."""
    (tmp_path / "fake_rows.py").write_text(ROWS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(BENCHMARKS)]))

    def make(name: str, limit: float = 20, **options: str) -> Row:
        return Row(name, f"Row {name}", limit, f"fake_rows:{name}", options)

    return make


def test_a_row_that_fails_dies_or_hangs_does_not_affect_others(rows, tmp_path, capsys):
    listed = [*map(rows, ("bad", "killed", "missing", "broken")), rows("endless", 1.5), rows("good", word="seen")]
    results = gpu.run(listed, TINY, tmp_path / "out" / "gpu.md", 60)
    assert [result.outcome for result in results] == [
        "failed: RuntimeError: out | of memory",
        "failed: killed by SIGKILL",
        "not run: no_such_package_here is missing",
        "failed: ModuleNotFoundError: No module named 'no_such_package_here'",
        "stopped at its limit of 2 s",
        "done",
    ]
    assert results[4].seconds < 20, "otherwise it would sleep for a minute"
    report = (tmp_path / "out" / "gpu.md").read_text()
    assert "seen on cpu" in report and "half" not in report, "the latest text of a row replaces the one before"
    assert "before the fault" in report and "a first number" in report, "results from before an error are kept"
    assert "| failed: RuntimeError: out \\| of memory |" in report
    log = (tmp_path / "out" / "gpu.log").read_text()
    assert 'raise RuntimeError("out | of memory")' in log, "the traceback"
    assert "time.sleep" in log or "in endless" in log, "where a row was when it was stopped"
    assert capsys.readouterr().out.splitlines()[-1].endswith("done")


def test_the_report_is_complete_after_each_row(rows, tmp_path, monkeypatch):
    reports, write = [], gpu.write
    monkeypatch.setattr(gpu, "write", lambda out, text: (write(out, text), reports.append(out.read_text())))
    gpu.run([rows("good"), rows("bad"), rows("good")], TINY, tmp_path / "gpu.md", 60)
    outcomes = [
        [line.split(" | ")[1][:6] for line in text.splitlines() if line.startswith("| ")][2:] for text in reports
    ]
    assert outcomes == [["done", "waitin", "waitin"], ["done", "failed", "waitin"], ["done", "failed", "done"]]
    assert [text.count("measured on cpu") for text in reports] == [1, 1, 2]
    assert list(tmp_path.glob("*.part")) == []


def test_rows_are_not_started_after_the_time_limit(rows, tmp_path):
    results = gpu.run([rows("good"), rows("good")], TINY, tmp_path / "gpu.md", 0)
    assert [result.outcome for result in results] == ["not run: the limit of 0 minutes is reached"] * 2


def test_every_row_has_a_short_limit_and_a_function():
    assert len({row.name for row in gpu.ROWS}) == len(gpu.ROWS)
    assert all(row.limit <= 70 for row in gpu.ROWS) and gpu.arguments([]).minutes == 6
    for row in gpu.ROWS:
        module, function = row.target.split(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))


# -- the pack --------------------------------------------------------------------------------------------------------


@pytest.fixture
def golden_folder(tmp_path):
    for pattern in pack.GOLDEN:
        file = tmp_path / "golden" / pattern.replace("*", "") / "io.bin"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"golden")
    return tmp_path / "golden"


def wheel(file: Path, *names: str) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "answer = 42\n")


def wheels(folder: Path) -> None:
    wheel(folder / "lacking-1-py3-none-any.whl", "lacking_here/__init__.py", "lacking-1.dist-info/METADATA")
    wheel(folder / "torch-1-py3-none-any.whl", "torch/__init__.py", "torch-1.dist-info/METADATA")
    libraries = [f"bitsandbytes/libbitsandbytes_{name}.so" for name in ("cpu", "cuda130", "cuda128", "rocm70")]
    wheel(folder / "bitsandbytes-1-py3-none-any.whl", "bitsandbytes/__init__.py", *libraries)


def test_a_pack_holds_golden_sets_and_wheels_without_other_libraries(golden_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "_download", wheels)
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "older-1-py3-none-any.whl").write_bytes(b"")
    line = pack.make(tmp_path / "pack", golden_folder)
    assert "0.0 of at most 60 MB" in line and "older" not in line
    carried = zipfile.ZipFile(tmp_path / "pack" / "bitsandbytes-1-py3-none-any.whl").namelist()
    assert [name for name in carried if name.endswith(".so")] == [
        "bitsandbytes/libbitsandbytes_cpu.so",
        "bitsandbytes/libbitsandbytes_cuda130.so",
    ]
    golden, packages = pack.unpack(tmp_path / "pack", tmp_path)
    assert (golden / "unirs" / "projector" / "io.bin").read_bytes() == b"golden"
    assert (packages / "lacking_here").is_dir()
    assert not (packages / "torch").exists(), "an installed package is not replaced by a build for another Python"


def test_a_pack_over_its_limits_is_an_error(golden_folder, tmp_path, monkeypatch):
    with pytest.raises(pack.PackError, match="the pack has 61.0 MB, more than 60; pack less"):
        pack.check({"golden.zip": 10**7, "a.whl": 51 * 10**6})
    with pytest.raises(pack.PackError, match="golden.zip has 16.0 MB, more than 15; pack less"):
        pack.check({"golden.zip": 16 * 10**6})
    with pytest.raises(pack.PackError, match="is not a pack: it has no golden.zip; make one with --pack"):
        pack.unpack(tmp_path, tmp_path / "into")
    (golden_folder / "unirs" / "projector").rename(golden_folder / "other")
    with pytest.raises(pack.PackError, match="has no unirs/projector; give the folder"):
        pack.make(tmp_path / "pack", golden_folder)


# -- rows at toy sizes -----------------------------------------------------------------------------------------------


def cells(text: str) -> list[list[str]]:
    """The rows of the last table."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")][2:]


def test_the_versions_name_what_is_missing():
    *_, text = versions.measure(TINY)
    found = dict(cells(text))
    assert found["torch"].startswith(torch.__version__) and versions.version("no_such_package_here") == "missing"
    assert float(found["bf16 product, TFLOP/s"]) > 0 and found["card"].startswith("none: ")


@pytest.mark.parametrize("size", ["3b", "7b"])
def test_captions_are_measured_at_each_batch(size):
    texts = list(captions.measure(TINY, size))
    assert len(texts) == 4 and len(cells(texts[0])) == 1, "a table after each batch, and after each other way"
    first, last = cells(texts[-1])
    assert [first[0], last[0]] == ["1", "2"]
    assert all(float(row[1]) > 0 and "%)" in row[3] and "%)" in row[5] for row in (first, last))
    assert first[7:10] == ["-"] * 3 and last[9] == "2 of 2"


def test_quantised_weights_are_measured_beside_plain_ones():
    if not all(cpu.works(kind) for kind in ("int8", "int4")):
        pytest.skip("this CPU has no such product")
    *_, text = quantized.measure(TINY)
    assert [row[:2] for row in cells(text.split("random weights:")[1])] == [
        [kind, str(count)] for kind in ("bfloat16", "int4", "int8") for count in (1, 2)
    ]
    assert "| as they are | 2 of 2 " in text, "answers in bfloat16 are those in bfloat16"


def test_attention_of_grouped_queries_is_counted():
    query, key = torch.randn(2, 8, 10, 16), torch.randn(2, 2, 30, 16)
    counted = speed.flops_of(lambda: torch.nn.functional.scaled_dot_product_attention(query, key, key, enable_gqa=True))
    assert counted == 2 * 2 * 8 * 10 * 30 * (16 + 16)


def test_steps_of_fixed_shapes_answer_like_the_plain_loop():
    *_, text = decoding.measure(TINY)
    assert [row[:2] for row in cells(text)][0] == ["float32", "12 of 12"]


def test_a_training_step_is_measured_with_and_without_checkpointing():
    *_, text = training.whole(TINY)
    assert [row[0] for row in cells(text)] == ["all weights"] * 3 + ["gradient checkpointing"]
    assert [row[1] for row in cells(text)] == ["2", "2", "4 x 2", "4 x 2"]
    first, last = (float(number) for number in cells(text)[0][-1].split(", "))
    assert last < first, "it learns the batch"


def test_only_the_adapter_is_trained():
    pytest.importorskip("peft", reason="needs the extra train, which dev includes")
    *_, text = training.lora(TINY)
    assert [row[0] for row in cells(text)] == ["LoRA", "LoRA", "LoRA, gradient checkpointing"]
    assert "LoRA: 0.1 M weights are trained." in text


def test_attentions_are_compared():
    *_, text = attention.measure(TINY)
    assert [row[0] for row in cells(text)] == ["sdpa", "eager"]
    assert float(cells(text)[1][-1]) < 0.1


def test_one_process_communicates_with_itself():
    *_, text = one_process.exchange(TINY)
    assert [row[0] for row in cells(text)] == ["1", "4"] and text.startswith("gloo, one process.")


def test_without_a_gpu_a_row_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NotRunError, match="PyTorch finds no CUDA GPU; --tiny"):
        next(versions.measure(Setting()))
    with pytest.raises(NotRunError, match="^no_such_package_here is missing$"):
        need("no_such_package_here")


def test_a_wrong_golden_number_fails_the_row(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        golden_numbers.golden, "CHECKS", {"unirs/attentive*": golden_numbers.golden.CHECKS["unirs/attentive*"]}
    )
    monkeypatch.setattr(golden_numbers.common, "PLACE", dict(golden_numbers.common.PLACE))
    folder = copy(shared, tmp_path)
    *_, text = golden_numbers.measure(Setting(tiny=True, golden=str(folder)))
    assert "**6 of 6 comparisons pass**" in text and capsys.readouterr().out.count("pass") == 6
    shift(folder / "unirs" / "attentive_n2" / "io.safetensors", "output", 3e-4)
    with pytest.raises(RuntimeError, match="1 of 6 comparisons fail"):
        list(golden_numbers.measure(Setting(tiny=True, golden=str(folder))))
    with pytest.raises(NotRunError, match="there are no golden sets"):
        list(golden_numbers.measure(TINY))


def test_bfloat16_has_its_own_tolerances_for_numbers_computed_in_it():
    row = golden_numbers.Comparison
    assert golden_numbers.in_bfloat16(row("texts", 1, 0)) == row("texts", 1, 0)
    assert golden_numbers.in_bfloat16(row("pixels", 1, golden_numbers.GREY)).tolerance == golden_numbers.GREY
    assert golden_numbers.in_bfloat16(row("batch loss", 0.04, 1e-4)).passed
    assert not golden_numbers.in_bfloat16(row("batch loss", 0.06, 1e-4)).passed
    assert not golden_numbers.in_bfloat16(row("logits", float("nan"), 1e-4)).passed
    assert not golden_numbers.in_bfloat16(row("greedy ids", 5, 0)).passed


BLOCK = """
import importlib.machinery as machinery
plain = machinery.PathFinder.find_spec
blocked = {"av", "rasterio", "bitsandbytes", "deepspeed", "flash_attn"}
machinery.PathFinder.find_spec = staticmethod(
    lambda name, path=None, target=None: None if name.split(".")[0] in blocked else plain(name, path, target)
)
"""


@pytest.mark.slow
def test_the_script_runs_where_optional_packages_are_missing(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    names = ["captions-3b", "qlora", "ddp", "deepspeed"]
    command = [
        sys.executable,
        str(BENCHMARKS / "gpu.py"),
        "--tiny",
        "--out",
        str(tmp_path / "gpu.md"),
        "--rows",
        *names,
    ]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    lines = done.stdout.splitlines()[:-1]
    assert {line.split()[0]: line.split(" s  ")[1] for line in lines} == {
        "captions-3b": "done",
        "qlora": "not run: bitsandbytes is missing",
        "ddp": "done",
        "deepspeed": "not run: deepspeed is missing",
    }
    assert done.returncode == 0
    assert "'loss': " in (tmp_path / "gpu.md").read_text()
