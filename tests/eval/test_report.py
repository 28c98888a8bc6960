"""`btcchat report`: one page of a run, its tables, samples and script; also in a browser, if there is one."""

import gzip
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from btcchat.cli import main
from btcchat.data.convert.base import CHANGE_QUESTION, conversation
from btcchat.eval.captions.changes import SAME
from btcchat.eval.runs.folder import map_path
from btcchat.train.run_state import TrainState
from tests.eval.runs import SETS, make_run, write_rows

HOSTILE = '<script>document.title="owned"</script> & "x" <img src=x>'
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(autouse=True)
def no_paraphrases(monkeypatch):
    """METEOR without its paraphrase table, which takes seconds to read."""
    monkeypatch.setattr(
        "btcchat.eval.captions.meteor.write_relevant", lambda table, texts, out: gzip.open(out, "wb").close()
    )


@pytest.fixture
def root(tmp_path):
    """Six pairs, of which the odd ones have changed, three questions and a clip."""
    for number in range(6):
        Image.new("RGB", (400, 200), (40 * number, 90, 200)).save(tmp_path / f"{number}.png")
    rows = []
    for number in range(6):
        captions = [f"{number} houses are built", f"some houses {HOSTILE}"] if number % 2 else [SAME, "no change"]
        row = {"id": f"pair_{number}", "modality": "pair", "images": [f"{number}.png", "0.png"], "captions": captions}
        rows.append(row | {"change_flag": number % 2, "conversations": conversation(CHANGE_QUESTION, captions[0])})
    rows[3]["id"] = HOSTILE
    (tmp_path / "sets.yaml").write_text(SETS)
    for split in ("val", "test"):
        write_rows(tmp_path / f"pairs_{split}.jsonl", rows)
    questions = [("comp", "Is it so?", "yes"), ("count", "How many?", "12"), ("presence", f"A road? {HOSTILE}", "no")]
    write_rows(
        tmp_path / "questions.jsonl",
        [
            {"id": n, "modality": "image", "image": "0.png", "question_type": t, "conversations": conversation(q, a)}
            for n, (t, q, a) in enumerate(questions)
        ],
    )
    clip = {"modality": "video", "video": ["1.png", "2.png"], "conversations": conversation("Which?", "fire")}
    write_rows(tmp_path / "clips.jsonl", [{"id": "clip", "label": "Fire", **clip}])
    return tmp_path


def caption(sample) -> str:
    """Right for unchanged pairs; of the changed ones, 1 is right, 5 is called unchanged."""
    number = sample.index
    if number % 2 == 0 or number == 5:
        return f"{SAME}."
    return "1 houses are built" if number == 1 else f"a road is removed {HOSTILE}"


class Page(HTMLParser):
    """Tags, sources of images, rows of tables, and of each card its attributes and text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.sources, self.rows, self.cards, self.text, self.inside = [], [], [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("img", "meta", "input", "html"):
            self.inside.append(tag)
        if tag == "img":
            self.sources.append(dict(attributes)["src"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "article":
            self.cards.append(dict(attributes) | {"text": ""})

    def handle_endtag(self, tag):
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.inside[-1:]):
            self.text += data
        if self.rows and {"td", "th"} & set(self.inside) and "small" not in self.inside:
            self.rows[-1][-1] += data
        if "article" in self.inside:
            self.cards[-1]["text"] += data

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row[0] == name)


def written(run, *options: str) -> str:
    assert main(["report", str(run), *options]) == 0
    return (run / "report.html").read_text(encoding="utf-8")


def test_a_report_has_the_tables_what_was_run_and_every_sample(root, tmp_path, capsys):
    run = make_run(root, "pairs", caption, tmp_path / "run")
    text = written(run)
    assert "report.html written" in capsys.readouterr().err
    page, scores = Page(text), json.loads((run / "metrics.json").read_text())["sets"]["pairs:val"]
    assert page.row("all")[1:3] == ["6", f"{scores['scores']['all']['BLEU-1']:.2f}"]
    assert page.row("changed only")[1] == "3" and page.row("is changed") == ["is changed", "2", "1"]
    assert page.row(f'"{SAME}" for all')[1] == "6" and page.row("objects")[1:]
    low, high = scores["scores"]["all"]["95 %"]["S*m"]
    assert f"{low:.2f} to {high:.2f}" in page.text
    for fact in ("f" * 64, "lower case, full stop dropped", "torch 2", "pycocoevalcap", "max_new_tokens 128",
                 "CIDEr-D goes up to 1000"):  # fmt: skip
        assert fact in page.text
    assert [card["data-is"] for card in page.cards] == [
        "unchanged", "changed", "unchanged", "changed", "unchanged", "changed misjudged",
    ]  # fmt: skip
    assert "All 6 samples." in page.text and "1 houses are built" in page.cards[1]["text"]
    assert page.cards[1]["data-values"].startswith("1 ") and "BLEU-4 100.00" in page.cards[1]["text"]
    assert len(page.sources) == 12 and all(source.startswith("data:image/webp;base64,") for source in page.sources)
    assert max(map(len, page.sources)) < 4000  # made smaller


def test_nothing_from_data_becomes_html_and_nothing_is_loaded(root, tmp_path):
    (tmp_path / "<b>run").mkdir()
    text = written(make_run(root, "pairs+questions", caption, tmp_path / "<b>run" / "one", model=HOSTILE))
    page = Page(text)
    assert page.tags.count("script") == 1 and "b" not in page.tags
    assert page.text.count(HOSTILE) >= 1 + 2 + 3 + 1  # model, id, references and prediction, question
    assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(?!data:|x>|x&gt;)[a-z]+:", text)
    assert "default-src 'none'" in text


def test_a_large_report_shows_the_worst_and_some_other_samples_and_how_many(root, tmp_path):
    page = Page(written(make_run(root, "mine", caption, tmp_path / "run"), "--samples", "4"))
    numbers = [int(card["data-values"].split()[0]) for card in page.cards]
    assert len(numbers) == 4 and {3, 5} < set(numbers) and "4 of 6 samples: the 2 worst, and 2 evenly" in page.text


def test_change_maps_are_shown_where_the_run_has_them(root, tmp_path):
    run = make_run(root, "pairs", caption, tmp_path / "run")
    plain = Page(written(run))
    path = map_path(run, "pair_1")
    path.parent.mkdir()
    levels = np.zeros((200, 400), np.uint8)
    levels[:, 200:] = 128
    Image.fromarray(levels).save(path)
    metrics = json.loads((run / "metrics.json").read_text())
    row = {"IoU": 12.3, "precision": None, "recall": 50.0, "F1": 20.0}
    ends = {name: [1.0, 99.0] for name in row}
    found = {"pairs": 6, "changed pixels": 3.0, "threshold": 0.25, "chosen": "the best on val"}
    found["scores"] = {"change map": row | {"95 %": ends}, "nothing changed": row}
    metrics["sets"]["pairs:val"]["change_map"] = found
    (run / "metrics.json").write_text(json.dumps(metrics))
    page = Page(written(run))
    assert page.row("change map") == ["change map", "12.30", "–", "50.00", "20.00"]
    assert "1.00 to 99.00" in page.text and "at least 0.250, the best on val" in page.text
    assert "change map, red: 0 to 0.50" in page.cards[1]["text"] and "change map" not in page.cards[0]["text"]
    assert len(page.sources) == len(plain.sources) + 1


def test_runs_on_levir_cc_are_shown_with_published_results_their_split_and_source(root, tmp_path):
    page = Page(written(make_run(root, "pairs", caption, tmp_path / "run"), "--samples", "0"))
    assert page.row("this run")[6:8] == ["pairs:val, 6 pairs", "not recorded with the checkpoint"]
    assert page.row("CCExpert-7B")[1:7] == ["65.49", "41.82", "76.55", "143.32", "81.80", "test, 1,929 pairs"]
    assert all(len(row) == 9 and row[8] for row in page.rows[page.rows.index(page.row("this run")) :])
    assert "not on the standard test split of 1,929 pairs" in page.text
    other = Page(written(make_run(root, "mine", caption, tmp_path / "other"), "--samples", "0"))
    assert "CCExpert" not in other.text and not other.cards


def test_a_checkpoint_chosen_on_a_test_split_is_reported_as_such(root, tmp_path):
    chosen = {"metric": "S*m", "value": 1.0, "step": 5, "sets": ["pairs:test"], "test splits": ["pairs:test"]}
    text = written(make_run(root, "pairs", caption, tmp_path / "run", selected=chosen), "--samples", "0")
    assert "<p class=warning>This checkpoint was chosen by S*m on pairs:test (A TEST SPLIT).</p>" in text
    assert "best S*m on pairs:test (A TEST SPLIT)" in text


def test_curves_are_drawn_of_the_training_that_kept_the_model(root, tmp_path):
    log = [{"step": step, "loss": 3 - step / 10, "eval_S*m": 10.0 * step, "epoch": 1} for step in (1, 2, 3)]
    log += [{"step": 3, "train_loss": 2.0}, {"step": 3, "loss": float("nan")}]
    checkpoint = tmp_path / "trained" / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    TrainState(max_steps=3, global_step=3, epoch=1.0, log_history=log).write(checkpoint)
    for number, model in enumerate(("trained", "trained/best", "trained/checkpoint-3")):
        run = make_run(root, "mine", caption, tmp_path / str(number), model=tmp_path / model)
        page = Page(written(run, "--samples", "0"))
        assert page.tags.count("svg") == 2 and "loss" in page.text and "S*m" in page.text, model
        assert "2.9" in page.text and "2.7" in page.text and "step 1" in page.text


def test_questions_and_classes_have_their_own_tables_and_cards(root, tmp_path):
    said = {"questions/0": "Yes.", "questions/1": "70", "questions/2": "yes", "clips/clip": "a fire"}
    page = Page(written(make_run(root, "questions+clips", lambda sample: said[sample.id], tmp_path / "run")))
    assert page.row("comparison") == ["comparison", "1", "100.00", "100.00"]
    assert page.row("overall accuracy")[1] == "100.00" and page.row("fire") == ["fire", "1", "100.00"]
    assert [card["data-is"] for card in page.cards] == ["right", "right", "wrong", "right"]
    assert "Is it so?" in page.cards[0]["text"] and "truth: yes" in page.cards[0]["text"]
    assert len(page.sources) == 3 + 2 and "in the range of the correct" in page.text


def test_a_run_that_cannot_be_reported_is_a_one_line_error(root, tmp_path, capsys):
    run = make_run(root, "pairs", caption, tmp_path / "run")
    faults = {}
    (tmp_path / "empty").mkdir()
    faults["is not a run folder of btcchat eval"] = ["report", str(tmp_path / "empty")]
    half = shutil.copytree(run, tmp_path / "half")
    (half / "metrics.json").unlink()
    faults["is not finished"] = ["report", str(half)]
    faults["cannot be written"] = ["report", str(run), "--out", str(tmp_path / "no" / "page.html")]
    moved = shutil.copytree(root, tmp_path.parent / f"{tmp_path.name}_moved", ignore=shutil.ignore_patterns("run*"))
    (root / "3.png").unlink()
    faults["3.png' not found"] = ["report", str(run)]
    capsys.readouterr()
    for message, words in faults.items():
        assert main(words) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err
    (root / "pairs_val.jsonl").write_text((root / "pairs_val.jsonl").read_text().replace("some houses", "some roads"))
    assert main(["report", str(run)]) == 2
    assert "pairs:val has changed since" in capsys.readouterr().err
    (root / "sets.yaml").unlink()
    assert main(["report", str(run)]) == 2
    assert "--samples 0 for a page without samples" in capsys.readouterr().err
    assert not (run / "report.html").exists() and not list(run.glob(".*.part"))
    assert "6 pairs" in written(run, "--samples", "0")
    assert "All 6 samples." in written(run, "--data-root", str(moved), "--mixture-folder", str(moved))


WIDE = """<script>
const boxes = [...document.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth)
const all = [...document.body.querySelectorAll("*")].filter(one => !one.closest(".scroll") && !one.closest("svg"))
const wide = all.filter(one => one.getBoundingClientRect().right > innerWidth).map(one => one.tagName)
document.body.dataset.measured = JSON.stringify({window: innerWidth, page: document.body.scrollWidth, wide,
    boxes: boxes.map(box => box.textContent.slice(0, 40))})
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium here (apt-get install chromium)")
def test_nothing_is_wider_than_a_window_of_1200_pixels(root, tmp_path):
    """With 25 classes, published results, names and answers without spaces, and training curves."""
    classes = [f"traffic congestion {number}" for number in range(25)]
    clip = {"modality": "video", "video": ["1.png", "2.png"]}
    rows = [{"id": n, "label": n, "conversations": conversation("Which?", n), **clip} for n in classes]
    write_rows(tmp_path / "clips.jsonl", rows)
    text = (root / "pairs_val.jsonl").read_text().replace("pair_2", "a_long_name_" * 30)
    (root / "pairs_val.jsonl").write_text(text)

    def answer(sample) -> str:
        return "x" * 300 if sample.index == 2 else caption(sample) if "pair" in sample.id else sample.references[0]

    options = {"model": "a_folder_with_a_long_name/" * 20}
    run = make_run(root, "pairs:val+pairs:test+questions+clips", answer, tmp_path / "run", **options)
    page = run / "measured.html"
    page.write_text(written(run) + WIDE, encoding="utf-8")
    window = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"]
    command = [BROWSER, *window, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    measured = json.loads(unescape(re.findall('data-measured="(.*?)"', done.stdout)[0]))
    assert measured["window"] in range(1100, 1201)
    assert measured["page"] <= measured["window"] and measured["wide"] == [] and measured["boxes"] == []


@pytest.mark.skipif(BROWSER is None, reason="no chromium here (apt-get install chromium)")
def test_a_browser_shows_sorts_and_filters_the_page_from_the_disk(root, tmp_path):
    run = make_run(root, "pairs", caption, tmp_path / "run")
    written(run)

    def shown(fragment: str) -> tuple[list[int], str]:
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        address = f"{(run / 'report.html').as_uri()}#{fragment}"
        done = subprocess.run([BROWSER, *options, "--dump-dom", address], capture_output=True, text=True, timeout=200)
        page = Page(done.stdout)
        assert done.stdout.count('aria-valuetext="50 % before, 50 % after"') == len(page.cards) == 6  # the swipes
        assert "owned" not in re.findall("<title>(.*?)</title>", done.stdout)[0]
        numbers = [int(card["data-values"].split()[0]) for card in page.cards if "hidden" not in card]
        return numbers, re.findall('id="?shown"?>(.*?)<', done.stdout)[0]

    assert shown("") == ([0, 1, 2, 3, 4, 5], "6 shown")
    assert shown("show=changed&sort=1") == ([5, 3, 1], "3 shown")
    assert shown("show=misjudged") == ([5], "1 shown")
    assert shown("show=nonsense&find=road") == ([3], "1 shown")
