"""How long the recipe of the packaged tiny model takes on this machine, told from some steps of each stage.

    python benchmarks/tiny_minutes.py runs/tiny     # the folder that scripts/v1_5/tiny/*.sh filled

Each stage goes through its own script, from the checkpoint that it starts from; the first fifth of the steps is left
out. Run it with nothing else on the machine.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from btcchat.eval.encoders.machine import machine
from btcchat.eval.encoders.markdown import table
from btcchat.train.presets import load_preset

STAGES = ("1_align", "2_change_encoder", "3_llm", "4_questions")
SCRIPTS = Path(__file__).resolve().parents[1] / "scripts" / "v1_5" / "tiny"


def measure(stage: str, runs: Path, steps: int) -> tuple[int, float]:
    """The steps of the whole stage, and the samples a second in ``steps`` of them."""
    with TemporaryDirectory() as out:
        flags = {"output_dir": out, "max_steps": steps, "save_steps": steps, "logging_steps": steps // 5}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        command = ["bash", str(SCRIPTS / f"{stage}.sh"), "--disable_tqdm", "True", *words]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"OUT": str(runs.resolve()), "PATH": path}
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        if run.returncode:
            sys.exit(f"tiny_minutes.py: error: {stage}: {run.stderr.strip().splitlines()[-1]}")
        state = json.loads((Path(out) / f"checkpoint-{steps}" / "trainer_state.json").read_text())
    speeds = [entry["samples_per_second"] for entry in state["log_history"] if "samples_per_second" in entry][1:]
    steps_an_epoch = steps / state["epoch"]
    rate = len(speeds) / sum(1 / speed for speed in speeds)  # each is of as many steps
    return round(load_preset(f"tiny/{stage}")["num_train_epochs"] * steps_an_epoch), rate


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder with data/ and the stages 0_init/ to 3_llm/")
    parser.add_argument("--steps", type=int, default=150, help="steps to time in each stage")
    options = parser.parse_args(arguments)
    rows, total = [], 0.0
    for stage in STAGES:
        steps, rate = measure(stage, options.runs, options.steps)
        minutes = steps * load_preset(f"tiny/{stage}")["per_device_train_batch_size"] / rate / 60
        total += minutes
        rows.append((stage, steps, f"{rate:.1f}", f"{minutes:.1f}"))
    print(table(["stage", "steps", "samples a second", "minutes"], [*rows, ("all", "", "", f"{total:.1f}")]))
    print(machine(torch.device("cpu")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
