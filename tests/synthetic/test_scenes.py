"""Synthetic scenes: the same seed gives the same sample, and the words say what the pixels show."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from PIL import Image

import btcchat
from btcchat.errors import BTCChatError
from btcchat.synthetic import PLACES, corpus, make_image, make_pair, make_series, make_video, swap
from btcchat.synthetic.__main__ import main
from btcchat.synthetic.answers import one_word, plain_caption
from btcchat.synthetic.dialogues import ALONE, dialogues
from btcchat.synthetic.edits import build_site, draw_events
from btcchat.synthetic.palette import HELD_OUT, TRAIN
from btcchat.synthetic.scene import BORDER, footprint, place_of
from btcchat.synthetic.start import Sizes, train_tokenizer
from btcchat.synthetic.words import words
from btcchat.synthetic.write import SampleCounts, write_dataset

MAKERS = [make_image, make_pair, make_series, make_video]


def changes_of(sample):
    return sorted((c["kind"], c["action"], c["count"], c["place"]) for c in sample.truth["changes"])


def digest(sample):
    pixels = b"".join(image.tobytes() for image in sample.images) + sample.mask.tobytes()
    said = json.dumps([sample.truth, sample.captions, sample.questions, sample.description])
    return hashlib.sha256(pixels + said.encode()).hexdigest()


@pytest.mark.parametrize("make", MAKERS)
def test_a_seed_gives_the_same_sample_and_another_seed_or_split_another_one(make):
    assert digest(make(7)) == digest(make(7))
    assert len({digest(make(7)), digest(make(8)), digest(make(7, heldout=True))}) == 3


@pytest.mark.parametrize(
    ("make", "frames"), [(make_image, {1}), (make_pair, {2}), (make_series, {3, 4, 5}), (make_video, {8})]
)
def test_a_sample_has_the_frames_of_its_task(make, frames):
    sample = make(3)
    assert len(sample.images) in frames
    assert all(image.shape == (256, 256, 3) and image.dtype == np.uint8 for image in sample.images)
    assert sample.mask.shape == (256, 256) and sample.mask.dtype == bool


def test_half_of_the_pairs_are_unchanged_and_only_changed_ones_have_a_mask(undrawn):
    pairs = [make_pair(seed) for seed in range(200)]
    changed = [pair.truth["changed"] for pair in pairs]
    assert 0.4 < np.mean(changed) < 0.6
    assert changed == [bool(pair.truth["changes"]) for pair in pairs] == [bool(pair.mask.any()) for pair in pairs]
    assert {len(pair.truth["changes"]) for pair in pairs} == {0, 1, 2, 3}


def test_the_place_of_a_single_change_is_that_of_its_mask_and_away_from_borders(undrawn):
    seen = set()
    for seed in range(300):
        pair = make_pair(seed)
        if len(pair.truth["changes"]) == 1:
            place, distance = place_of(pair.mask)
            assert PLACES[place] == pair.truth["changes"][0]["place"] and distance >= BORDER
            seen.add((pair.truth["changes"][0]["kind"], pair.truth["changes"][0]["action"]))
    assert len(seen) == 12


def test_pixels_differ_more_inside_the_mask_than_outside():
    ratios = []
    for seed in range(40):
        pair = make_pair(seed)
        if pair.truth["changed"]:
            before, after = (image.astype(np.float32) for image in pair.images)
            gain = np.median(before, axis=(0, 1)) / np.median(after, axis=(0, 1))  # illumination is no change
            difference = np.abs(before - after * gain).mean(2)
            ratios.append(difference[pair.mask].mean() / difference[~pair.mask].mean())
    assert len(ratios) > 10 and np.median(ratios) > 2.5 and min(ratios) > 1.0


def test_unchanged_pairs_differ_by_nuisances_only():
    pair = next(p for p in map(make_pair, range(50)) if not p.truth["changed"])
    assert (pair.images[0] != pair.images[1]).any()
    assert [q.answer for q in pair.questions if q.kind == "changed"] == ["no"]


def test_swapping_the_dates_inverts_every_change_and_twice_is_the_same():
    pair = next(p for p in map(make_pair, range(50)) if p.truth["changed"])
    other = swap(pair)
    opposite = {"built": "removed", "removed": "built"}
    assert changes_of(other) == sorted((k, opposite[a], n, p) for k, a, n, p in changes_of(pair))
    assert (other.images[0] == pair.images[1]).all() and (other.mask == pair.mask).all()
    assert swap(other).truth == pair.truth


def test_a_question_has_one_answer_and_it_is_true_of_the_scene(undrawn):
    for seed in range(100):
        pair = make_pair(seed)
        houses = {c["action"]: c["count"] for c in pair.truth["changes"] if c["kind"] == "house"}
        numbers = ["none", "one", "two", "three", "four", "five"]
        for question in pair.questions:
            if question.kind == "houses":
                assert question.answer == numbers[houses.get(question.slots["done"], 0)]
        image = make_image(seed)
        for sample in (pair, image, make_series(seed)):
            asked = [(question.kind, *question.slots.items()) for question in sample.questions]
            assert len({*asked}) == len(asked)
        for question in image.questions:
            if question.kind == "any_at" and question.slots["at"] == "in the center":
                inside = {words()["many"][kind] for kind in image.truth["places"]["center"]}
                assert (question.answer == "yes") == (question.slots["things"] in inside)


def test_what_changed_is_answered_with_the_caption_and_the_date_with_the_image_that_shows_it(undrawn):
    for seed in range(60):
        pair = make_pair(seed)
        said = {question.kind: question.answer for question in pair.questions}
        assert said["what"] == plain_caption(pair.truth["changes"])
        assert {said["changed"], said["same"]} == {"yes", "no"}
        for question in pair.questions:
            if question.kind == "which_date":
                change = next(c for c in pair.truth["changes"] if words()["at"][c["place"]] == question.slots["at"])
                assert question.answer == ("the second" if change["action"] == "built" else "the first")


def test_the_description_of_a_pair_says_what_stood_and_what_stands_then(undrawn):
    for pair in map(make_pair, range(60)):
        assert (" then " in pair.description) == pair.truth["changed"]
        back = swap(pair)
        parts, back_parts = (p.description.removesuffix(" .").split(" . ") for p in (pair, back))
        for part, back_part in zip(parts, back_parts, strict=True):
            then = part.partition(" ")[2].split(" then ")
            if not {"extended", "reduced"} & set(part.split()):
                assert back_part.partition(" ")[2].split(" then ") == then[::-1]
        named = {part.partition(" ")[0] for part in parts if " then " in part}
        assert {one_word(change["place"]) for change in pair.truth["changes"]} <= named


def test_the_description_names_every_place_in_reading_order(undrawn):
    for seed in range(50):
        parts = make_image(seed).description.removesuffix(" .").split(" . ")
        assert [part.split()[0] for part in parts[1:]] == [one_word(place) for place in PLACES]
        assert parts[0] in ("background grass", "background soil")


def test_houses_stand_apart_so_that_they_can_be_counted():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        site, _, _ = build_site(rng, 2, draw_events(rng, 1, [0]), heldout=False)
        for date in range(2):
            standing = [thing for thing in site.at(date) if thing.kind in ("house", "building")]
            assert sum(thing.kind == "house" for thing in standing) <= 9
            cover = sum(footprint([thing], margin=0.5).astype(int) for thing in standing)
            assert np.max(cover, initial=0) <= 1


def test_the_step_of_an_event_is_when_its_answers_say(undrawn):
    ordinals = ("first", "second", "third", "fourth", "fifth")
    for seed in range(60):
        for sample, frames in ((make_series(seed), None), (make_video(seed), 8)):
            steps = [c["step"] for c in sample.truth["changes"]]
            assert steps == sorted(set(steps)) and all(0 <= step < len(sample.images) - 1 for step in steps)
            if len(steps) == 1:
                when = next(q.answer for q in sample.questions if q.kind == "when")
                if frames:
                    assert steps[0] != 3 and when == f"in the {'first' if steps[0] < 3 else 'second'} half"
                else:
                    assert when == f"between the {ordinals[steps[0]]} and the {ordinals[steps[0] + 1]} date"


def test_an_event_of_a_series_shows_in_the_pixels_at_its_step():
    shown = []
    for seed in range(12):
        series = make_series(seed, 4)
        if len(series.truth["changes"]) == 1:
            means = [image[series.mask].mean(0) / image[~series.mask].mean(0) for image in series.images]
            jumps = np.abs(np.diff(means, axis=0)).sum(1)
            shown.append(int(jumps.argmax()) == series.truth["changes"][0]["step"])
    assert len(shown) >= 5 and np.mean(shown) >= 0.8


def test_held_out_roofs_and_grounds_have_other_colours():
    for name in ("roof", "hall", "grass", "soil", "canopy", "water", "asphalt"):
        for old in TRAIN[name]:
            for new in HELD_OUT[name]:
                assert any(a[1] < b[0] or b[1] < a[0] for a, b in zip(old, new, strict=True)), (name, old, new)


def test_all_words_are_few(undrawn):
    found = set()
    for seed in range(80):
        for sample in (make_image(seed), make_pair(seed), make_series(seed), make_video(seed)):
            for text in (
                *sample.captions,
                sample.description,
                *(t for q in sample.questions for t in (*q.all_worded(), q.answer)),
            ):
                found.update(text.lower().replace("?", "").replace(".", "").split())
    assert 150 < len(found) <= 800


def test_a_data_set_is_the_same_for_any_number_of_workers(tmp_path):
    counts = SampleCounts(pairs=5, images=3, series=2, videos=1)
    for workers in (1, 2):
        write_dataset(tmp_path / str(workers), counts, seed=4, workers=workers)
    one, two = (
        {p.relative_to(tmp_path / w): p.read_bytes() for p in sorted((tmp_path / w).rglob("*")) if p.is_file()}
        for w in "12"
    )
    assert one == two and len(one) > 20


def test_writing_into_a_log_prints_its_progress(tmp_path, capsys, every_step):
    assert main(["--out", str(tmp_path / "set"), "--pairs", "3", "--workers", "1"]) == 0
    assert "btcchat: 1 of 3 samples (33 %), " in capsys.readouterr().err


def test_records_name_their_files_and_have_the_right_number_of_placeholders(tmp_path):
    calls = []
    out = write_dataset(
        tmp_path / "set",
        SampleCounts(pairs=2, images=2, series=2, videos=1),
        seed=1,
        workers=1,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls[-1] == (7, 7)
    frames_of = dict.fromkeys(("pairs", "pairs_align", "pairs_changes", "images", "images_align", "videos"), 1)
    frames_of |= dict.fromkeys(("pairs_questions", "images_questions", "videos_questions"), 1)
    frames_of["series"] = frames_of["series_questions"] = None
    for name, frames in frames_of.items():
        records = [json.loads(line) for line in (out / f"{name}.jsonl").read_text().splitlines()]
        samples = 1 if name.startswith("videos") else 2
        alone = name.endswith("_questions")
        assert len({record["id"] for record in records}) == len(records) == samples
        assert all(record.get("independent", False) is alone for record in records)
        for record in records:
            paths = record.get("images") or [record.get("image") or record["video"]]
            assert all((out / path).exists() for path in paths)
            first, *others = [turn["value"] for turn in record["conversations"] if turn["from"] == "human"]
            expected = frames or len(paths)
            assert first.startswith("<image>\n" * expected) and first.count("<image>") == expected
            assert not any("<image>" in text for text in others)
            assert [turn["from"] for turn in record["conversations"]] == ["human", "gpt"] * (1 + len(others))
            if samples == 1:
                assert len(list((out / record["video"]).iterdir())) == 8
            assert alone or len(record["captions"]) == 5
    mask = np.asarray(Image.open(out / json.loads((out / "pairs.jsonl").read_text().splitlines()[0])["mask"]))
    assert mask.shape == (256, 256)


def test_a_pair_trains_its_description_the_list_of_its_changes_and_a_chat_with_one_caption(undrawn):
    for seed in range(20):
        pair = make_pair(seed)
        found = {file: (sample, turns) for file, sample, turns in dialogues(pair)}
        (shown, ((_, dense),)), (swapped, ((_, listed),)) = found["pairs_align"], found["pairs_changes"]
        same, turns = found["pairs"]
        assert shown is same is pair and dense == pair.description
        shown, alone = found["pairs_questions"]
        assert shown is pair and 5 <= len(alone) <= ALONE["pair"]
        assert swapped.truth == swap(pair).truth
        assert len(listed.split(" . ")) == max(1, len(pair.truth["changes"]))
        assert (listed == "nothing .") == (not pair.truth["changed"])
        assert all(change["place"].replace(" ", "") in listed for change in pair.truth["changes"])
        assert 5 <= len(turns) <= 9
        assert 1 <= sum(answer == plain_caption(pair.truth["changes"]) for _, answer in turns) <= 2
        assert all(answer != pair.description for _, answer in turns)


def test_an_existing_folder_is_an_error_that_names_it(tmp_path, capsys):
    with pytest.raises(BTCChatError, match=f"{tmp_path} already exists; remove it"):
        write_dataset(tmp_path, SampleCounts(pairs=1), seed=0)
    assert main(["--out", str(tmp_path), "--pairs", "1"]) == 2
    assert "already exists" in capsys.readouterr().err


def test_the_command_writes_a_held_out_set(tmp_path):
    assert main(["--out", str(tmp_path / "new"), "--images", "1", "--seed", "2", "--heldout", "--workers", "1"]) == 0
    assert (tmp_path / "new" / "images.jsonl").is_file() and not list(tmp_path.glob(".new*"))


def test_the_corpus_holds_the_prompt_the_genre_and_ordinary_sentences():
    lines = list(corpus(0, samples=20))
    assert lines == list(corpus(0, samples=20)) and len(set(lines[:300])) > 280
    text = "\n".join(lines)
    for part in ("A chat between a curious user", "USER:", "ASSISTANT:", "hurricane", "How many houses", "background "):
        assert part in text


def test_the_packaged_tokenizer_comes_from_the_corpus(tmp_path):
    """If this fails, words.yaml or sentences.txt has changed: train the packaged model again, or undo the change."""
    train_tokenizer(corpus(0), Sizes.vocabulary, tmp_path)
    pieces, packaged = (
        [model.id_to_piece(index) for index in range(model.get_piece_size())]
        for model in (
            sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
            for folder in (tmp_path, Path(btcchat.__file__).parent / "assets" / "tiny" / "llm")
        )
    )
    assert pieces == packaged
