"""Mixtures: their samples, the descriptions of their sets, and errors."""

import json
import re
from collections import Counter

import pytest

from btcchat.data import register
from btcchat.data.mixture import descriptions, terms
from btcchat.data.mixture.faults import BadSample
from btcchat.data.mixture.mixture import build_datasets, known_sets, mixture_folder, parse_mixture
from btcchat.data.mixture.sampling import sample
from btcchat.data.mixture.terms import with_absolute_paths
from btcchat.errors import BTCChatError

CAPTIONS = ["a house", "a small house was built", "one house"]


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch):
    monkeypatch.setattr(descriptions, "_registered", {})


@pytest.fixture
def sets(tmp_path):
    """Sets "one" (3 rows), "two" (3), "ten" (10), and "captioned" (2 rows of 3 captions, 1 of none)."""
    counts = {"one": 3, "two": 3, "ten": 10, "captioned": 3}
    for name, count in counts.items():
        rows = []
        for number in range(count):
            answer = CAPTIONS[0] if name == "captioned" else f"{name} {number}"
            talk = [{"from": "human", "value": "What is new?"}, {"from": "gpt", "value": answer}]
            rows.append({"modality": "text", "conversations": talk})
            if name == "captioned" and number < 2:
                rows[-1]["captions"] = CAPTIONS
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "sets.yaml").write_text(
        "one: {annotation: one.jsonl, images: .}\n"
        "two: {annotation: two.jsonl, images: ., license: CC0-1.0, gsd: 0.5}\n"
        "ten: {annotation: ten.jsonl}\n"
        "captioned: {annotation: captioned.jsonl, captions: flatten_list}\n"
        "both: {description: two sets, mixture: one + two*2}\n"
    )
    return tmp_path


@pytest.fixture
def answers(sets):
    """``answers("one+two")``: what the samples of a mixture answer, in order."""

    def go(mixture: str, epoch: int = 0, **options) -> list[str]:
        built = build_datasets(mixture, answer, **{"data_root": sets, "folder": sets} | options)
        return [built[epoch, i] for i in range(len(built))]

    return go


def answer(record) -> str:
    return record.conversations[-1]["value"]


ONE, TWO = ([f"{name} {i}" for i in range(3)] for name in ("one", "two"))


def test_a_mixture_lists_its_terms():
    assert parse_mixture("a+b@first:9*3 + a") == [("a", 1), ("b@first:9", 3), ("a", 1)]


def test_a_split_is_named_after_a_colon(answers, sets):
    (sets / "more.yaml").write_text("halves: {annotation: '{split}.jsonl', splits: [one, two, train]}")
    (sets / "train.jsonl").write_bytes((sets / "two.jsonl").read_bytes())
    assert answers("halves:one@first:1+halves:two*2") == ONE[:1] + TWO * 2
    assert answers("halves") == answers("halves:train") == TWO
    for mixture, message in {
        "halves:three": "unknown split of halves 'three'; choose from one, train, two",
        "ten:val": "data set 'ten' has no splits; leave out ':val'",
        "both:val": ":val is for a single set, but 'both' is a mixture",
    }.items():
        with pytest.raises(BTCChatError, match=message):
            answers(mixture)


@pytest.mark.parametrize("mixture", ["", "a+", "a*", "a*0", "a*x", "*3", "a*-1"])
def test_a_mixture_that_cannot_be_read_is_an_error(mixture):
    for length, shown in ((60, "*" + "a" * 59), (61, "*" + "a" * 59 + "...")):
        with pytest.raises(BTCChatError) as error:
            parse_mixture("*" + "a" * (length - 1))
        assert error.value.args[0].startswith(f"data mixture '{shown}': ")
    with pytest.raises(BTCChatError, match="is not a set's name"):
        parse_mixture(mixture)


def test_a_set_named_three_times_counts_three_times(answers, sets):
    assert answers("one+two*3") == answers("one+two+two+two") == ONE + TWO * 3
    mixture = build_datasets("one+two*3", dict, data_root=sets, folder=sets)
    with pytest.raises(IndexError):
        mixture[12]
    lengths = mixture.lengths(lambda modality, frames, characters: characters)
    assert list(lengths) == [len("What is new?one 0")] * 12


def test_a_mixture_has_a_name(answers):
    assert answers("both") == ONE + TWO * 2
    assert answers("one+both*2") == ONE + (ONE + TWO * 2) * 2


@pytest.mark.parametrize(
    ("sampling", "rows"),
    [
        ("all", range(10)),
        ("first:3", [0, 1, 2]),
        ("end:3", [7, 8, 9]),
        ("first:25%", [0, 1, 2]),
        ("end:10%", [9]),
        ("first:10", range(10)),
    ],
)
def test_a_part_of_a_set_is_taken(answers, sampling, rows):
    assert answers(f"ten@{sampling}") == [f"ten {row}" for row in rows]


@pytest.mark.parametrize(("sampling", "count"), [("random:4", 4), ("40%", 4), ("random:31%", 4), ("0.5%", 1)])
def test_a_random_part_depends_only_on_the_seed(answers, sampling, count):
    drawn = answers(f"ten@{sampling}")
    assert len(set(drawn)) == len(drawn) == count
    assert drawn == answers(f"ten@{sampling}", epoch=1) == answers(f"one+ten@{sampling}")[3:]
    assert len({tuple(answers(f"ten@{sampling}", seed=seed)) for seed in range(8)}) > 1


def test_two_sets_do_not_lose_the_same_rows():
    assert list(sample("50%", 100, name="a", seed=0)) != list(sample("50%", 100, name="b", seed=0))


def test_sampling_is_set_in_the_yaml_or_in_the_mixture(answers, sets):
    (sets / "more.yaml").write_text("few: {annotation: ten.jsonl, sampling: 'first:2'}")
    assert answers("few") == ["ten 0", "ten 1"]
    assert answers("few@end:1*2") == ["ten 9", "ten 9"]


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ("ten@first:11", "data set 'ten': sampling 'first:11' needs 11 records, but it has 10"),
        ("ten@random:0", "'random:0' needs 0 records"),
        ("ten@last:3", "'@last:3' of 'ten' is neither all, first:N, end:N, random:N, N% nor written, random_choice"),
        ("ten@first:1@end:1", "'ten' has @first:1 and @end:1; give one"),
        ("ten@flatten_list@2%@random_choice", "'ten' has @flatten_list and @random_choice; give one"),
        ("both@first:3", "@first:3 is for a single set, but 'both' is a mixture"),
        ("one+tow", r"unknown data set 'tow' \(did you mean 'two'\?\); choose from .* two, .*"),
        ("levir_c", r"did you mean 'levir_cc'\?"),
        ("nowhere.yaml", "nowhere.yaml cannot be read: No such file"),
    ],
)
def test_an_invalid_mixture_is_an_error(answers, mixture, message):
    with pytest.raises(BTCChatError, match=message):
        answers(mixture)


def test_a_mixture_that_contains_itself_is_an_error(answers, sets):
    (sets / "round.yaml").write_text("a: {mixture: one+b}\nb: {mixture: two+a}")
    with pytest.raises(BTCChatError, match=r"'a' contains itself \(a > b > a\)"):
        answers("a")


# Captions ------------------------------------------------------------------------------------------------------------


def test_flattened_every_caption_is_a_sample(answers):
    assert answers("captioned") == CAPTIONS * 2 + CAPTIONS[:1]
    assert answers("captioned@end:2") == CAPTIONS + CAPTIONS[:1]
    assert answers("captioned@written") == CAPTIONS[:1] * 3


def test_a_caption_is_chosen_again_in_each_epoch(answers):
    epochs = [answers("captioned@random_choice*50", epoch=epoch) for epoch in range(2)]
    assert epochs[0] == answers("captioned@random_choice*50") != epochs[1]
    assert epochs[0] != answers("captioned@random_choice*50", seed=1)
    counts = Counter(epochs[0])  # 100 draws, and 50 times the record without captions
    assert all(count > 15 for count in (counts[CAPTIONS[1]], counts[CAPTIONS[2]], counts[CAPTIONS[0]] - 50))


def test_captions_that_are_not_an_answer_are_an_error(answers, sets):
    talk = [{"from": "human", "value": "?"}, {"from": "gpt", "value": "y"}]
    (sets / "one.jsonl").write_text(json.dumps({"modality": "text", "captions": ["x"], "conversations": talk}))
    assert answers("one") == ["y"]
    with pytest.raises(BTCChatError, match="one.jsonl row 1: no answer is one of its 'captions'"):
        answers("one@random_choice")


def test_the_length_of_a_record_is_that_of_its_longest_caption(sets):
    mixture = build_datasets("captioned", dict, data_root=sets, folder=sets)
    longest, only = (len(f"What is new?{caption}") for caption in (CAPTIONS[1], CAPTIONS[0]))
    assert list(mixture.lengths(lambda modality, frames, characters: characters)) == [longest] * 6 + [only]


# Where sets are described --------------------------------------------------------------------------------------------


def test_user_sets_are_added_to_the_packaged_ones(sets):
    shipped, known = set(known_sets()), set(known_sets(sets))
    assert "levir_cc" in shipped and known == shipped | {"one", "two", "ten", "captioned", "both"}


def test_a_yaml_file_is_a_mixture_of_its_sets(answers, tmp_path):
    path = tmp_path / "mine" / "my sets.yaml"
    path.parent.mkdir()
    path.write_text("a: {annotation: one.jsonl}\nb: {annotation: two.jsonl, sampling: 'end:1'}")
    assert answers(str(path), folder=None) == [*ONE, "two 2"]
    assert answers(f"{path}:b*2+{path}:a@first:1", folder=None) == ["two 2", "two 2", "one 0"]
    path.write_text(path.read_text() + "\nmix: {mixture: b*2+a@first:1}")
    assert answers(str(path), folder=None) == ["two 2", "two 2", "one 0"]
    path.write_text(path.read_text() + "\nother: {mixture: a}")
    with pytest.raises(BTCChatError, match=r"has 2 mixtures; name one, e.g. .*my sets.yaml:mix"):
        answers(str(path), folder=None)


def test_a_yml_file_is_a_yaml_file(answers, sets):
    path = sets / "mine.yaml.old" / "more.yml"
    path.parent.mkdir()
    path.write_text("b: {annotation: two.jsonl, sampling: 'end:1'}")
    assert answers(f"{path}:b@first:1*2+{path}", folder=None) == ["two 0", "two 0", "two 2"]
    assert answers("b", folder=path.parent) == ["two 2"]


def test_a_mixture_with_absolute_paths_means_the_same_in_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = "levir_cc:val + sub/mine.yaml:a@first:2*3+../other.yml"
    expected = f"levir_cc:val+{tmp_path}/sub/mine.yaml:a@first:2*3+{tmp_path.parent}/other.yml"
    assert with_absolute_paths(written) == with_absolute_paths(expected) == expected
    (tmp_path / "a+b").mkdir()
    monkeypatch.chdir("a+b")
    assert with_absolute_paths("mine.yaml:a") == "mine.yaml:a"  # its absolute path would be two terms


@pytest.mark.parametrize("name", ["a+b/mine.yaml", "a@b/mine.yml", "a*2/mine.yaml", "mine*.yaml"])
def test_a_path_that_contains_a_sign_of_mixtures_is_an_error(answers, sets, name):
    path = sets / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("b: {annotation: two.jsonl}")
    with pytest.raises(BTCChatError, match=r"contains \+ @ or \*, .* give --mixture_folder") as error:
        answers(f"one+{path}:b*2")
    assert str(error.value).startswith(f"'{path}'")
    assert answers("b", folder=path.parent) == TWO


def test_sets_are_registered_from_python(answers, sets):
    register("mine", annotation=str(sets / "one.jsonl"), images=str(sets), gsd=0.3)
    register("mine_twice", mixture="mine*2")
    assert answers("mine_twice", folder=None, data_root=None) == ONE * 2
    with pytest.raises(BTCChatError, match="register: data set 'bad' must have annotation"):
        register("bad", images="x")


def test_a_user_description_replaces_the_packaged_one(answers, sets):
    (sets / "mine.yaml").write_text("levir_cc: {annotation: one.jsonl}")
    assert answers("levir_cc") == ONE


def test_data_root_comes_from_the_flag_or_the_environment(sets, monkeypatch):
    monkeypatch.delenv("BTCCHAT_DATA", raising=False)
    with pytest.raises(BTCChatError, match="data set 'one': .* needs a data folder; give --data_root"):
        build_datasets("one", dict, folder=sets)
    monkeypatch.setenv("BTCCHAT_DATA", str(sets))
    assert len(build_datasets("one", dict, folder=sets)) == 3


@pytest.mark.parametrize("path", ["one.jsonl", "sub/one.jsonl", "sub"])
def test_a_path_in_place_of_a_name_is_an_error_that_says_so(answers, sets, monkeypatch, path):
    (sets / "sub").mkdir()
    monkeypatch.chdir(sets)
    with pytest.raises(BTCChatError, match=f"'{path}' is a path, .*; describe the file in a YAML file and give that"):
        answers(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one: {annotation: x, images: .}", "'one' is described twice"),
        ("three: {images: x}", "'three' must have annotation"),
        ("three: {annotation: x, lisence: CC0}", r"'three': unknown key 'lisence' \(did you mean 'license'\?\)"),
        ("three: {mixtur: one}", r"'three': unknown key 'mixtur' \(did you mean 'mixture'\?\)"),
        ("three: {mixture: one, annotation: x}", "'three' must have annotation"),
        ("three+: {annotation: x}", r"the name 'three\+' contains"),
        ("three: {annotation: one.jsonl, captions: any}", "unknown use of captions 'any'"),
        ("three: [", "is not YAML"),
        ("- three", "does not describe any data set"),
    ],
)
def test_a_bad_description_of_sets_is_an_error(sets, text, message):
    (sets / "user.yaml").write_text(text)
    with pytest.raises(BTCChatError, match=message):
        build_datasets("three", dict, data_root=sets, folder=sets)


def test_the_shipped_sets_and_mixtures_can_be_described():
    known = known_sets(mixture_folder())
    assert {f"synthetic_{kind}" for kind in ("image", "pair", "series", "video")} <= set(known)
    for name, description in known.items():
        assert all("annotation" in term.description for term in terms(name, known)), name
        assert description.get("description"), name


def test_the_documented_sets_and_terms_are_understood(tmp_path):
    docs = (mixture_folder().parent / "docs" / "data.md").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(re.search(r"```yaml\n(.+?)```", docs, re.DOTALL)[1])
    known = known_sets(tmp_path)
    assert [term.name for term in terms("harbour_and_levir", known)] == ["harbour"] * 3 + ["levir_cc:train"]
    table = docs.split("| term ", 1)[1].split("\n\n", 1)[0]
    written = [term for term in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE) if ".yaml" not in term]
    assert len(written) >= 7
    assert all(terms(term, known) for term in written)


# Samples that cannot be made -----------------------------------------------------------------------------------------


def fails(record):
    if record.where.endswith("row 2"):
        raise BTCChatError("no such image")
    return answer(record)


def test_a_fault_while_making_a_sample_names_the_record(sets):
    with pytest.raises(BTCChatError, match="^two.jsonl row 2: no such image$"):
        build_datasets("one+two", fails, data_root=sets, folder=sets)[4]


def test_a_bad_sample_is_skipped_only_on_request(sets):
    row = {"modality": "text", "captions": ["x"], "conversations": [{"from": "human", "value": "?"}]}
    row["conversations"].append({"from": "gpt", "value": "y"})
    (sets / "captioned.jsonl").write_text(json.dumps(row))
    mixture = build_datasets("captioned", dict, data_root=sets, folder=sets, bad_samples="skip")
    assert mixture[0].fault.startswith("captioned.jsonl row 1: no answer is one of its 'captions'")
    mixture = build_datasets("one+two", fails, data_root=sets, folder=sets, bad_samples="skip")
    assert mixture[4] == BadSample("two.jsonl row 2: no such image")
    assert mixture[5] == "two 2"
    with pytest.raises(BTCChatError, match="unknown bad_samples value 'replace'"):
        build_datasets("one", fails, data_root=sets, folder=sets, bad_samples="replace")
