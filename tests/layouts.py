"""Miniatures of the published data sets: their folders, names and annotation files, with 32 x 32 images."""

import json
import zlib
from pathlib import Path

from PIL import Image

from tests.media.test_video import write_video

GEOCHAT = "share/softwares/kartik/GeoChat_finetuning/final_images_llava"


def image(path: Path, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = zlib.crc32(path.as_posix().encode()) % 200  # a different shade for each
    Image.new(mode, (32, 32), shade if mode != "RGB" else (shade, 50, 90)).save(path)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def karpathy(names: dict[str, str], **more) -> dict:
    """name -> split, in the layout of LEVIR-CC; five captions each."""
    entries = []
    for number, (name, split) in enumerate(names.items()):
        sentences = [{"tokens": ["house", str(k)], "raw": f" house {k} .", "imgid": number} for k in range(5)]
        entry = {
            "filepath": split,
            "filename": name,
            "imgid": number,
            "split": split,
            "changeflag": 1,
        }  # must match its captions
        entries.append(entry | {"sentences": sentences} | more)
    return {"images": entries, "dataset": "MINI"}


def levir_cc(root: Path, captions: str = "LevirCCcaptions.json", masks: str = "") -> None:
    names = {
        "train_000001.png": "train",
        "train_000002.png": "train",
        "val_000001.png": "val",
        "test_000001.png": "test",
    }
    write_json(root / captions, karpathy(names))
    for name, split in names.items():
        for side in "AB":
            image(root / "images" / split / side / name)
        if masks:
            image(root / "images" / split / "label" / name, masks)


def levir_mci(root: Path) -> None:
    levir_cc(root, masks="RGB")


def whu_cdc(root: Path) -> None:
    levir_cc(root, "whuCCcaptions.json", masks="1")


def dubai_cc(root: Path) -> None:
    for number, split in enumerate(("Train", "Validation", "Test")):
        entry = {"filename": f"{number}.tif", "sentences": [{"raw": "A road appears."}]}
        write_json(root / f"description_jsontr_te_val/{split}_dubai.json", {"images": [entry]})
        for year in (2000, 2010):
            image(root / f"imgs_tiles/RGB/500_{year}/{number}.tif")


def second_cc(root: Path) -> None:
    names = {"00003.png": "train", "00011.png": "val", "00013.png": "test"}
    write_json(root / "SECOND-CC-AUG.json", karpathy(names))
    for name, split in names.items():
        for folder in ("rgb/A", "rgb/B", "sem/A", "sem/B"):
            image(root / split / folder / name)


def geochat_instruct(root: Path) -> None:
    talk = [{"from": "human", "value": "<image>\n[refer] a ship"}, {"from": "gpt", "value": "{<1><2><3><4>|<5>}"}]
    rows = [{"id": name, "image": f"{name}.png", "conversations": talk} for name in ("P0001", "P0002", "P0001")]
    write_json(root / "GeoChat_Instruct.json", rows)
    for name in ("P0001", "P0002"):
        image(root / GEOCHAT / f"{name}.png")


def rsvqa(root: Path, prefix: str, splits: list[str], images: str) -> None:
    """Every file lists all ids; those of other splits are inactive and have no other fields."""
    for mine, split in enumerate(splits):
        questions, answers, pictures = [], [], []
        for number in range(2 * len(splits)):
            if number // 2 != mine:
                for listed in (questions, answers, pictures):
                    listed.append({"id": number, "active": False})
                continue
            question = {"id": number, "date_added": 1.5, "img_id": mine, "type": "presence", "question": "Is it wet?"}
            questions.append(question | {"answers_ids": [number], "active": True})
            answers.append({"id": number, "question_id": number, "answer": ["yes", "no"][number % 2], "active": True})
            pictures.append({"id": mine, "questions_ids": [number], "file_name": f"{mine:05}.png", "active": True})
        write_json(root / f"{prefix}{split}_questions.json", {"questions": questions})
        write_json(root / f"{prefix}{split}_answers.json", {"answers": answers})
        write_json(root / f"{prefix}{split}_images.json", {"images": pictures})
        if images:
            image(root / images / f"{mine}.tif")


def rsvqa_lr(root: Path) -> None:
    rsvqa(root, "LR_split_", ["train", "val", "test"], "Images_LR")


def rsvqa_hr(root: Path) -> None:
    rsvqa(root, "USGS_split_", ["train", "val", "test", "test_phili"], "Data")


def cdvqa(root: Path) -> None:
    rsvqa(root, "", ["Train", "Val", "Test", "Test2"], "")
    for number in range(4):
        for date in ("im1", "im2"):
            image(root / date / f"{number:05}.png")


def crsvqa(root: Path) -> None:
    for name, lines in (("2", "What is the scene？\r\nairport\r\n"), ("10", "How many?\r\n3\r\nIs it?\r\nyes\r\n")):
        (root / "data/text").mkdir(parents=True, exist_ok=True)
        (root / f"data/text/{name}.txt").write_bytes(lines.encode())
        image(root / f"data/image/{name}.png")


def era(root: Path) -> None:
    for name in ("Tra/TrafficCollision/TrafficCollision_001.mp4", "Tra/Fire_2.mp4", "Test/NonEvent/a.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(root / name, 3)


def ccexpert(root: Path) -> None:
    paths = {"img1_path": "LEVIR/A/1.png", "img2_path": "LEVIR/B/1.png"}
    captions = {"change_flag": 1, "change_caption": ["a house appears", "a building is there"]}
    absolute = {name: str(root / path) for name, path in paths.items()}
    rows = [{"uid": "levir_1", **paths, **captions}, {"uid": 2, **absolute, **captions}]
    write_json(root / "LevirCCcaptions_train_universal.json", rows)
    for path in paths.values():
        image(root / path)


def unirs(root: Path) -> None:
    talk = [{"from": "human", "value": "<image>\n<image>\nWhat is new?"}, {"from": "gpt", "value": "a house"}]
    rows = [
        {"id": "a", "image": ["A/1.png", "B/1.png"], "conversations": talk},
        {"id": "a", "image": "A/1.png###B/1.png", "conversations": talk},
        {"image": "A/1.png", "conversations": talk, "clue": "farmland"},
        {"image": ["A/1.png"], "conversations": talk},
        {"video": "Tra/Fire_2.mp4", "conversations": talk},
        {"conversations": talk},
    ]
    write_json(root / "LEVIR_CC_Train_Plus.json", rows)
    for side in "AB":
        image(root / side / "1.png")
    (root / "Tra").mkdir()
    write_video(root / "Tra/Fire_2.mp4", 3)


LAYOUTS = {
    make.__name__: make
    for make in (
        levir_cc, levir_mci, dubai_cc, second_cc, whu_cdc, geochat_instruct, rsvqa_lr, rsvqa_hr, crsvqa, cdvqa, era,
        ccexpert, unirs,
    )
}  # fmt: skip
