"""Several processes on this machine's CPU train the same model as one process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from btcchat import BTCChat, cli
from btcchat.data.batches import Batching, GroupedBatches
from btcchat.errors import BTCChatError
from btcchat.train import hardware
from btcchat.train.distributed import check_processes, deepspeed_config
from btcchat.train.flags import parse_arguments
from tests.tiny import tiny_model

ROOT = Path(__file__).resolve().parents[2]
STEPS = 4
ALL = {"tune_vision_tower": True, "tune_mm_projector": True, "tune_language_model": True}
# Name -> (mixture, flags). In each, some steps have pairs on only one of two processes (a test checks that).
STAGES = {
    "everything": ("images+pairs+series+videos+texts", ALL | {"per_device_train_batch_size": 2}),
    "change encoder": ("pairs+images*3+texts*4", {"tune_cc_projector": True, "per_device_train_batch_size": 1}),
}
# A bias before a BatchNorm has only rounding errors as its gradient; with the usual 1e-8, Adam turns them into steps.
COMMON = {"max_steps": STEPS, "save_steps": STEPS, "save_strategy": "steps", "max_grad_norm": 0.5, "adam_epsilon": 1e-5}


@pytest.fixture
def launch(data_root, checkpoint, tmp_path):
    """``launch([command of the launcher, ...], "pairs", deepspeed="zero2", ...)`` -> the output folder."""

    def go(launchers: list[list[str]], mixture: str, **flags) -> Path:
        out = tmp_path / "together"
        flags = {"model_name_or_path": checkpoint} | COMMON | flags | {"data_mixture": mixture, "output_dir": out}
        flags |= {"data_root": data_root, "mixture_folder": data_root, "num_video_frames": 3, "learning_rate": 1e-3}
        flags |= {"logging_steps": 1, "dataloader_num_workers": 0, "disable_tqdm": True}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": path}
        environment |= {"CUDA_VISIBLE_DEVICES": "", "LOCAL_SIZE": "2"}  # DeepSpeed: this CPU counts as two devices
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": tmp_path}
        running = [
            subprocess.Popen([*launcher, *words], env=environment, start_new_session=True, **options)
            for launcher in launchers
        ]
        try:
            outputs = [process.communicate(timeout=500)[0] for process in running]
        finally:
            for process in running:
                if process.poll() is None:
                    process.terminate()  # the launcher ends its processes
                    try:
                        process.wait(timeout=60)
                    except subprocess.TimeoutExpired:
                        os.killpg(process.pid, signal.SIGKILL)
        assert all(process.returncode == 0 for process in running), "\n".join(outputs)[-3000:]
        return out

    return go


def torchrun(*options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options, "-m", "btcchat.train.train_mem"]


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


@pytest.fixture(scope="module")
def cpu_adam(tmp_path_factory) -> Path:
    """Folder of DeepSpeed's CPU Adam, compiled once beforehand: about a minute, longer than a launch should wait.

    It is in a folder of these tests: in the user's, the lock of a killed build would block every later one for ever.
    """
    folder = tmp_path_factory.mktemp("torch_extensions")
    build = "from deepspeed.ops.op_builder import CPUAdamBuilder; CPUAdamBuilder().load(verbose=False)"
    environment = os.environ | {"TORCH_EXTENSIONS_DIR": str(folder)}
    subprocess.run([sys.executable, "-c", build], check=True, timeout=800, capture_output=True, env=environment)
    return folder


def losses(log_history: list[dict]) -> list[float]:
    return [entry["loss"] for entry in log_history if "loss" in entry]


def check_same(out: Path, alone, capsys) -> None:
    """The run in ``out`` had the losses of ``alone`` and left the same model, which can caption."""
    state = json.loads((out / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())
    assert losses(state["log_history"]) == pytest.approx(losses(alone.state.log_history), abs=1e-3)
    assert {path.name for path in out.iterdir()} == {
        *("config.json", "llm", "vision_tower", "mm_projector", "training.json", "trainer_state.json"),
        f"checkpoint-{STEPS}",
    }
    model = BTCChat.from_pretrained(out, device="cpu", dtype=torch.float32).state_dict()
    for key, value in alone.model.state_dict().items():
        if "running_" not in key and "num_batches" not in key:  # each process has the statistics of its own batches
            torch.testing.assert_close(model[key], value, atol=1e-4, rtol=0, msg=lambda text, key=key: f"{key}: {text}")
    capsys.readouterr()
    assert cli.main(["caption", "--example", "--model", str(out), "--max-new-tokens", "3", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.endswith("\n")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("how", "stage"),
    [
        *((how, "everything") for how in ("ddp", "zero1", "zero2", "zero2_offload", "zero3", "zero3_offload")),
        *((how, "change encoder") for how in ("ddp", "zero2", "zero3")),  # offloading communicates as these do
    ],
)
def test_two_processes_train_the_same_model_as_one(run, launch, capsys, request, monkeypatch, how, stage):
    if "offload" in how:
        monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(request.getfixturevalue("cpu_adam")))
    mixture, flags = STAGES[stage]
    alone = run(mixture, **COMMON, **flags, gradient_accumulation_steps=2)
    parallel = {"use_cpu": True} if how == "ddp" else {"deepspeed": how}
    check_same(launch([torchrun("--standalone", "--nproc_per_node=2")], mixture, **flags, **parallel), alone, capsys)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_the_change_map_as_one(run, launch, masked, capsys):
    mixture, flags = f"{masked}+images*3+texts*4", STAGES["change encoder"][1] | {"mask_loss": 2.0}
    alone = run(mixture, **COMMON, **flags, gradient_accumulation_steps=2)
    out = launch([torchrun("--standalone", "--nproc_per_node=2")], mixture, **flags, use_cpu=True)
    check_same(out, alone, capsys)


@pytest.mark.parametrize("stage", STAGES)
def test_some_steps_have_pairs_on_only_one_process(run, stage):
    mixture, flags = STAGES[stage]
    alone = run(mixture, **flags, max_steps=1)
    size, seed = flags["per_device_train_batch_size"], alone.args.seed
    lengths = alone.train_dataset.lengths(alone.estimate)

    def has_pair(rank: int) -> list[bool]:
        batches = islice(GroupedBatches(lengths, Batching(size, seed=seed, rank=rank, world=2)), STEPS)
        return [any(alone.train_dataset.record(i).modality == "pair" for i in batch) for batch in batches]

    assert has_pair(0) != has_pair(1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_deepspeed_launcher_starts_the_published_script(run, launch, capsys):
    mixture, flags = STAGES["everything"]
    alone = run(mixture, **COMMON, **flags, gradient_accumulation_steps=2)
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--include", "localhost:0,1"]
    launcher += ["--master_port", free_port(), str(ROOT / "btcchat" / "train" / "train_mem.py")]
    check_same(launch([launcher], mixture, **flags, deepspeed=ROOT / "scripts" / "zero2.json"), alone, capsys)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("how", "trained"),
    [
        ("zero2_offload", {"tune_language_model": True}),  # the published command: the encoder is fresh and frozen
        ("zero2", {"tune_cc_projector": True}),
        ("zero3", ALL),
    ],
)
def test_bfloat16_under_deepspeed_matches_autocast(run, launch, tmp_path, request, monkeypatch, how, trained):
    """DeepSpeed casts the weights to bfloat16, and leaves BatchNorm's running statistics in float32."""
    if "offload" in how:
        monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(request.getfixturevalue("cpu_adam")))
    tiny_model(tmp_path, change_encoder=None).save_pretrained(tmp_path / "origin")
    flags = {"model_name_or_path": tmp_path / "origin", "from_origin": True, "chg": True, "chg_type": "Chg2Cap"}
    flags |= {"cc_n_layers": 0, "cc_head": 8, "cc_dropout": 0.0, "bf16": True, "version": "v1", **trained}
    alone = run("images+pairs", **COMMON | flags)
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--include", "localhost:0"]
    launcher += ["--master_port", free_port(), str(ROOT / "btcchat" / "train" / "train_mem.py")]
    out = launch([launcher], "images+pairs", **flags, deepspeed=how, per_device_train_batch_size=4)
    state = json.loads((out / f"checkpoint-{STEPS}" / "trainer_state.json").read_text())
    assert losses(state["log_history"]) == pytest.approx(losses(alone.state.log_history), abs=0.05)
    assert cli.main(["caption", "--example", "--model", str(out), "--max-new-tokens", "3", "--device", "cpu"]) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["ddp", "zero3", "hostfile"])
def test_two_nodes_train_the_same_model_as_one_process(run, launch, capsys, tmp_path, how):
    mixture, flags = STAGES["everything"]
    alone = run(mixture, **COMMON, **flags, gradient_accumulation_steps=2)
    shared = ["--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    if how == "hostfile":
        (tmp_path / "hostfile").write_text("127.0.0.1 slots=1\nlocalhost slots=1\n")
        shared += ["--hostfile", str(tmp_path / "hostfile"), "--no_ssh"]
        start, how = [sys.executable, "-m", "deepspeed.launcher.runner", *shared], "zero2"
        nodes = [[*start, f"--node_rank={rank}", str(ROOT / "btcchat/train/train_mem.py")] for rank in (0, 1)]
    else:
        nodes = [torchrun("--nnodes=2", "--nproc_per_node=1", *shared, f"--node_rank={rank}") for rank in (0, 1)]
    parallel = {"use_cpu": True} if how == "ddp" else {"deepspeed": how}
    check_same(launch(nodes, mixture, **flags, **parallel), alone, capsys)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_accumulating_gradients_under_zero_matches_a_single_process(run, launch, capsys):
    mixture, flags = "images+pairs+series+videos", ALL | {"per_device_train_batch_size": 1}
    alone = run(mixture, **COMMON, **flags, gradient_accumulation_steps=4)
    launcher = torchrun("--standalone", "--nproc_per_node=2")
    out = launch([launcher], mixture, **flags, gradient_accumulation_steps=2, deepspeed="zero2")
    check_same(out, alone, capsys)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["ddp", "zero3"])
def test_a_resumed_run_of_two_processes_equals_the_uninterrupted_one(launch, how):
    mixture, flags = STAGES["everything"]
    parallel = {"use_cpu": True} if how == "ddp" else {"deepspeed": how}
    flags = flags | parallel | {"cc_dropout": 0.2, "save_steps": 2}  # each process draws its own dropout
    launcher = torchrun("--standalone", "--nproc_per_node=2")
    out = launch([launcher], mixture, **flags)
    state = out / f"checkpoint-{STEPS}" / "trainer_state.json"
    whole = losses(json.loads(state.read_text())["log_history"])
    weights = BTCChat.from_pretrained(out, device="cpu", dtype=torch.float32).state_dict()
    shutil.rmtree(state.parent)
    (out / "config.json").unlink()
    launch([launcher], mixture, **flags, resume=True)
    assert losses(json.loads(state.read_text())["log_history"]) == pytest.approx(whole, abs=1e-6)
    for key, value in BTCChat.from_pretrained(out, device="cpu", dtype=torch.float32).state_dict().items():
        torch.testing.assert_close(value, weights[key], atol=1e-5, rtol=0, msg=key)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_adapter_is_trained_under_zero3_too(run, launch, capsys):
    """The frozen weights are split too; only the adapter of the language model is saved."""
    mixture, flags = STAGES["everything"]
    flags = flags | {"tune_language_model": False, "tune_vision_tower": False}
    flags |= {"lora_enable": True, "lora_r": 4, "lora_dropout": 0.0}
    alone = run(mixture, **COMMON, **flags, gradient_accumulation_steps=2)
    out = launch([torchrun("--standalone", "--nproc_per_node=2")], mixture, **flags, deepspeed="zero3")
    assert [path.name for path in (out / "llm").glob("*.safetensors")] == ["adapter_model.safetensors"]
    check_same(out, alone, capsys)


# -- configs and flags -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zero1", "zero2", "zero2_offload", "zero3", "zero3_offload"])
def test_a_shipped_config_is_found_by_its_published_path_too(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where there is no scripts/
    config = deepspeed_config(f"scripts/{name}.json")
    assert config == deepspeed_config(name)
    assert config["zero_optimization"]["stage"] == int(name[4])
    assert ("offload_optimizer" in config["zero_optimization"]) == name.endswith("offload")


def test_a_deepspeed_config_that_cannot_work_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(BTCChatError, match="no DeepSpeed config zero4; give a JSON file, or one of zero1, zero2"):
        deepspeed_config("zero4")
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(BTCChatError, match="empty.json is empty, so DeepSpeed would not be used; leave"):
        deepspeed_config(str(tmp_path / "empty.json"))
    shards = tmp_path / "shards.json"
    shards.write_text('{"zero_optimization": {"stage": 3}}')
    with pytest.raises(BTCChatError, match="set stage3_gather_16bit_weights_on_model_save to true"):
        deepspeed_config(str(shards))
    shards.write_text("{")
    with pytest.raises(BTCChatError, match="shards.json is not JSON .*; correct the file or get it again"):
        deepspeed_config(str(shards))
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    with pytest.raises(BTCChatError, match="install ninja and g"):
        deepspeed_config("zero2_offload")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--deepspeed", "zero2", "--use_cpu", "True"], "leave out --use_cpu"),
        (["--fsdp", "full_shard", "--use_cpu", "True"], "there is no flag --fsdp here; split weights with"),
        (["--fp16", "True", "--use_cpu", "True"], "no GPU for --fp16 True; to train on the CPU, add --fp16 False"),
        pytest.param(
            ["--tf32", "True", "--use_cpu", "True"],
            "no GPU for --tf32 True; to train on the CPU, add --tf32 False",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine may have it"),
        ),
    ],
)
def test_flags_that_this_machine_or_another_flag_rules_out_are_errors(flags, message):
    needed = ["--model_name_or_path", "m", "--data_mixture", "a", "--output_dir", "o"]
    with pytest.raises(BTCChatError, match=message):
        parse_arguments([*needed, *flags])


@pytest.mark.parametrize("launcher", ["LOCAL_WORLD_SIZE", "LOCAL_SIZE"])
def test_more_processes_than_gpus_are_an_error_before_nccl_fails(monkeypatch, launcher):
    args = SimpleNamespace(use_cpu=False, world_size=2, ddp_backend=None)
    monkeypatch.setenv(launcher, "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BTCChatError, match=r"^2 processes were started .* finds 1 GPU, .* start 1 \(torchrun"):
        check_processes(args)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_processes(args)


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_that_a_gpu_only_emulates_is_an_error_that_names_float16(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    # transformers 5 keeps what these two return first.
    monkeypatch.setattr(hardware, "is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr(hardware, "is_torch_tf32_available", lambda: False)
    args = SimpleNamespace(bf16=True, fp16=False, tf32=False, use_cpu=False, deepspeed=None, bits=16)
    words = "this GPU cannot compute with --bf16 True; add --bf16 False --fp16 True"
    with nullcontext() if native else pytest.raises(BTCChatError, match=words):
        hardware.check_hardware(args)
