"""A data root of coloured squares with every modality, and the folder of a random model to start from."""

import json

import numpy as np
import pytest
from PIL import Image

COLOURS = {"red": (210, 30, 30), "green": (30, 190, 40), "blue": (30, 40, 210), "white": (240, 240, 240)}
MIXTURE = """
images: {annotation: images.jsonl, images: .}
pairs: {annotation: pairs.json, images: .}
series: {annotation: series.jsonl, images: .}
videos: {annotation: videos.jsonl, images: .}
texts: {annotation: texts.jsonl, images: .}
"""


def talk(question: str, answer: str) -> list[dict]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name, colour in COLOURS.items():
        Image.new("RGB", (32, 32), colour).save(root / f"{name}.png")
        (root / f"clip_{name}").mkdir()
        for frame in range(3):
            Image.new("RGB", (32, 32), colour).save(root / f"clip_{name}" / f"{frame}.png")
    names = list(COLOURS)
    rows = {
        "images.jsonl": [
            {"modality": "image", "image": f"{n}.png", "conversations": talk("<image>\nWhat colour?", n)} for n in names
        ],
        "pairs.json": [
            {
                "modality": "pair",
                "images": [f"{a}.png", f"{b}.png"],
                "conversations": talk("<image>\nWhat changed?", "nothing" if a == b else f"{a} became {b}"),
            }
            for a in names
            for b in names
        ],
        "series.jsonl": [
            {
                "modality": "series",
                "images": [f"{a}.png", "red.png", "blue.png"],
                "dates": ["2010", "2014", "2019"],
                "task": "vqa",
                "conversations": talk("How did it begin?", f"it was {a}"),
            }
            for a in names
        ],
        "videos.jsonl": [
            {"modality": "video", "video": f"clip_{n}", "conversations": talk("<image>\nWhat is it?", n)} for n in names
        ],
        "texts.jsonl": [{"modality": "text", "conversations": talk("Hello?", "a chat") + talk("What?", "a scene")}],
    }
    for file, content in rows.items():
        lines = "\n".join(json.dumps(row) for row in content)
        (root / file).write_text(json.dumps(content) if file.endswith(".json") else lines, encoding="utf-8")
    (root / "sets.yaml").write_text(MIXTURE, encoding="utf-8")
    return root


@pytest.fixture
def masked(data_root):
    """A mixture whose masks mark the left half of each changed pair, in addition to the shared data root."""
    names = list(COLOURS)
    rows = []
    for before in names:
        for after in names:
            image = np.zeros((32, 32), np.uint8)
            image[:, :16] = 255 * (before != after)
            Image.fromarray(image).save(data_root / f"mask_{before}_{after}.png")
            answer = "nothing" if before == after else f"{before} became {after}"
            rows.append(
                {
                    "modality": "pair",
                    "images": [f"{before}.png", f"{after}.png"],
                    "mask": f"mask_{before}_{after}.png",
                    "conversations": talk("<image>\nWhat changed?", answer),
                }
            )
    (data_root / "masked.json").write_text(json.dumps(rows), encoding="utf-8")
    (data_root / "masked.yaml").write_text("masked: {annotation: masked.json, images: .}\n", encoding="utf-8")
    return "masked"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A random model with an attentive change encoder."""
    from tests.tiny import tiny_model

    folder = tmp_path_factory.mktemp("start")
    tiny_model(folder).save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture
def run(data_root, checkpoint, tmp_path):
    """``run("pairs", tune_language_model=True, ...)`` trains for a few steps and returns the Trainer."""
    from btcchat.train.flags import parse_arguments
    from btcchat.train.train import train

    def go(mixture: str = "pairs", **flags):
        flags = {
            "model_name_or_path": checkpoint,
            "data_mixture": mixture,
            "data_root": data_root,
            "mixture_folder": data_root,
            "output_dir": tmp_path / "out",
            "num_video_frames": 3,
            "max_steps": 2,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "dataloader_num_workers": 0,
            "use_cpu": True,
            "disable_tqdm": True,
        } | flags
        return train(*parse_arguments([word for name, value in flags.items() for word in (f"--{name}", str(value))]))

    return go
