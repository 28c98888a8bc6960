"""The page of samples shows what the model gets."""

import base64
import io
import json
import tarfile
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from btcchat import cli, prompt
from btcchat.clues.store import ClueWriter
from btcchat.errors import BTCChatError
from btcchat.multimodal_encoder.preprocess import ImageProcessor

TALK = [{"from": "human", "value": "What is new?"}, {"from": "gpt", "value": "a house"}]
HOSTILE = '<script>alert(1)</script> & "quoted" </s>'


@pytest.fixture
def root(tmp_path, monkeypatch, maker):
    rng = np.random.default_rng(0)
    for name in ("a", "b", "<c>"):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    talk = [{"from": "human", "value": f"<image>\nWhat is new? {HOSTILE[:25]}"}, {"from": "gpt", "value": HOSTILE}]
    rows = [
        {"modality": "pair", "images": ["a.png", "<c>.png"], "dates": ["<2010>", "2014"], "task": "<i>"},
        {"modality": "image", "image": "b.png"},
        {"modality": "image", "image": "gone<b>.png"},
        {"modality": "text", "conversations": [talk[0] | {"value": "What is new?"}, talk[1]]},
    ]
    lines = "\n".join(json.dumps({"id": f"<b>{n}", "conversations": talk} | row) for n, row in enumerate(rows, start=1))
    (tmp_path / "rows.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "sets.yaml").write_text("mine: {annotation: rows.jsonl, images: .}")
    monkeypatch.setattr("btcchat.commands.options.load_processor", lambda args: maker)
    return tmp_path


class Page(HTMLParser):
    """The text of each element by tag, and the images."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.texts, self.tags, self.sources, self.tokens = [], {}, [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("img", "meta"):
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")
        if tag == "img":
            self.sources.append(dict(attributes)["src"])
        if tag == "li":
            self.tokens.append(dict(attributes).get("class"))

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]][-1] += data


def written(root, *more: str) -> str:
    where = ["--data_root", str(root), "--mixture_folder", str(root), "--out", str(root / "page.html")]
    assert cli.main(["data", "show", "mine", *where, *more]) == 0
    return (root / "page.html").read_text(encoding="utf-8")


def test_the_page_has_the_prompt_the_ids_and_the_labels_of_each_sample(root, maker, capsys):
    page = Page(written(root))
    assert "4 samples written to" in capsys.readouterr().err
    assert page.texts["h2"] == ["image", "pair", "text"]
    sample = maker_sample(root, maker)
    at = page.texts["h3"].index("mine, id <b>1") - 1  # the missing image has no prompt
    turns = maker.turns(record_of(root), 2)
    assert page.texts["pre"][at] == prompt.render(turns)
    ids = [int(text) for text in page.texts["small"]]
    want = sample["input_ids"].tolist()
    start = next(i for i in range(len(ids)) if ids[i : i + len(want)] == want)
    learned = [label != prompt.IGNORE_INDEX for label in sample["labels"].tolist()]
    assert [kind == "learned" for kind in page.tokens[start : start + len(want)]] == learned
    assert page.tokens[start : start + len(want)].count("image") == 1 and any(learned) and not all(learned)


def test_the_images_are_those_the_model_sees(root, maker):
    page = Page(written(root))
    assert len(page.sources) == 3
    pictures = [Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))) for s in page.sources]
    frames = [maker.image_processor(Image.open(root / f"{name}.png")) for name in ("b", "a", "<c>")]
    assert all(torch.equal(maker.image_processor(image), want) for image, want in zip(pictures, frames, strict=True))
    assert torch.equal(torch.stack(frames[1:]), maker_sample(root, maker)["frames"])


def test_all_text_of_a_data_set_is_escaped(root):
    text = written(root)
    page = Page(text)
    assert "script" not in page.tags and "b" not in page.tags and "c" not in page.tags and "i" not in page.tags
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)  # nothing is fetched
    assert "href" not in text and "url(" not in text and "@import" not in text
    assert any("gone<b>.png" in part and "not found" in part for part in page.texts["p"])
    assert any(part.endswith("2014: <c>.png") for part in page.texts["figcaption"])


def test_clues_are_in_the_prompts(root, tmp_path):
    about = {"model": "base", "identity": "0", "questions": {}}
    with ClueWriter(tmp_path / "clues", about) as writer:
        writer.add([("pair", [str(root / "a.png"), str(root / "<c>.png")], "<u>")])
    (root / "rows.jsonl").write_text((root / "rows.jsonl").read_text().splitlines()[0])
    page = Page(written(root, "--clues", str(tmp_path / "clues")))
    assert "[<i>] [clue: <u>] What is new?" in page.texts["pre"][0] and "u" not in page.tags


def test_the_seed_determines_the_samples(root):
    assert written(root, "--samples", "1", "--seed", "3") == written(root, "--samples", "1", "--seed", "3")
    chosen = {tuple(Page(written(root, "--samples", "1", "--seed", str(seed))).texts["h3"]) for seed in range(8)}
    assert chosen == {(f"mine, id <b>{image}", "mine, id <b>1", "mine, id <b>4") for image in (2, 3)}


def test_a_card_names_its_set_and_record_and_has_all_captions(root):
    talk = [{"from": "human", "value": "<image>\nWhat is new?"}, {"from": "gpt", "value": "<i>a house"}]
    rows = [
        {"id": 7, "modality": "pair", "images": ["a.png", "b.png"], "captions": ["<i>a house", "a road", "a villa"]},
        {"modality": "pair", "images": ["b.png", "a.png"]},
    ]
    (root / "rows.jsonl").write_text("\n".join(json.dumps({"conversations": talk} | row) for row in rows))
    page = Page(written(root))
    assert page.texts["h3"] == ["mine, id 7", "mine, no id"]
    assert [text for text in page.texts["p"] if text.startswith("rows")] == ["rows.jsonl row 1", "rows.jsonl row 2"]
    captions = [text for text in page.texts["li"] if text in ("a road", "a villa")]
    assert captions == ["a road", "a villa"] and page.texts["span"].count("<i>a house") == 1  # the one that is learned
    several = "mine@first:1*2+mine@flatten_list"
    where = [
        "--data_root",
        str(root),
        "--mixture_folder",
        str(root),
        "--out",
        str(root / "page.html"),
        "--samples",
        "9",
    ]
    assert cli.main(["data", "show", several, *where]) == 0
    names = Page((root / "page.html").read_text()).texts["h3"]
    assert names == ["mine@first:1, id 7"] * 2 + ["mine@flatten_list, id 7"] * 3 + ["mine@flatten_list, no id"]


def test_a_card_of_a_stream_names_its_set_too(root):
    with tarfile.open(root / "x-0.tar", "w") as tar:
        tar.add(root / "a.png", "0.png")
        (root / "record.json").write_text(json.dumps({"id": "streamed", "modality": "image", "conversations": TALK}))
        tar.add(root / "record.json", "0.json")
    (root / "sets.yaml").write_text("mine: {annotation: rows.jsonl, images: .}\ntars: {annotation: x-*.tar, images: .}")
    where = ["--data_root", str(root), "--mixture_folder", str(root), "--out", str(root / "page.html")]
    assert cli.main(["data", "show", "mine@first:1+tars", *where]) == 0
    names = Page((root / "page.html").read_text()).texts["h3"]
    assert sorted(names) == ["mine@first:1, id <b>1", "tars, id streamed"]


def test_a_page_that_cannot_be_written_is_an_error(root, capsys):
    where = ["--data_root", str(root), "--mixture_folder", str(root)]
    assert cli.main(["data", "show", "mine", *where, "--out", str(root / "none" / "page.html")]) == 2
    assert "cannot be written: give a file in an existing folder" in capsys.readouterr().err


@pytest.mark.parametrize("aspect_ratio", ["resize", "pad"])
def test_an_image_of_the_towers_size_keeps_its_grey_levels(aspect_ratio):
    processor = ImageProcessor((16, 16), [0.48, 0.46, 0.41], [0.27, 0.26, 0.28], aspect_ratio=aspect_ratio)
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8))
    assert np.array_equal(processor(image).permute(1, 2, 0).numpy(), np.asarray(image))


def record_of(root):
    from btcchat.data.mixture import build_datasets

    return build_datasets("mine", dict, data_root=root, folder=root).record(0)


def maker_sample(root, maker) -> dict:
    return maker(record_of(root), train=True)


def test_a_page_replaces_a_page_of_ours_and_no_other_file(root, tmp_path, capsys):
    from btcchat.media.page import write_page
    from btcchat.outputs.ours import HTML

    for _ in range(2):
        write_page(tmp_path / "page.html", [f"<!DOCTYPE html>{HTML}", "text"])
    (tmp_path / "mine.html").write_text("<!DOCTYPE html><p>mine")
    with pytest.raises(BTCChatError, match="mine.html already exists, and btcchat did not write it"):
        write_page(tmp_path / "mine.html", iter([]))
    assert (tmp_path / "mine.html").read_text() == "<!DOCTYPE html><p>mine"


def test_independent_questions_are_shown_as_the_prompts_that_each_of_them_gets(root, capsys):
    talk = [{"from": "human", "value": "Is there a road?"}, {"from": "gpt", "value": "no"}]
    row = {"modality": "image", "image": "b.png", "independent": True, "conversations": [*TALK, *talk]}
    (root / "rows.jsonl").write_text(json.dumps(row))
    command = ["data", "show", "mine", "--mixture_folder", str(root), "--data_root", str(root), "--out"]
    assert cli.main([*command, str(root / "page.html")]) == 0
    first, second = Page((root / "page.html").read_text(encoding="utf-8")).texts["pre"]
    assert first.endswith("<image>\nWhat is new? ASSISTANT: a house</s>")
    assert second.endswith("<image>\nIs there a road? ASSISTANT: no</s>")
