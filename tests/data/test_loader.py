"""The batches of a training run: token budgets, shares of processes and workers, bad samples left out."""

import json
import math
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from btcchat.data.batches import Batching, GroupedBatches
from btcchat.data.lengths import LengthEstimate
from btcchat.data.loader import collate_good, train_loader
from btcchat.data.mixture import build_datasets
from btcchat.data.mixture.faults import BadSample
from btcchat.data.mixture.stream import StreamMixture
from btcchat.data.records import Record, characters
from btcchat.errors import BTCChatError
from btcchat.processor import Processor
from btcchat.prompt import TEMPLATES
from tests.data.test_formats import shard

LENGTHS = np.random.default_rng(0).choice([30, 100, 220, 1500], 1001) + np.random.default_rng(1).integers(0, 30, 1001)
NO_FRAMES = torch.zeros(0, 3, 0, 0, dtype=torch.uint8)
SETTINGS = {"batch_size": 16, "max_tokens": 2000, "seed": 1}


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_batches_under_a_token_budget_hold_every_sample_once_over_all_ranks(world, accumulate):
    ranks = [
        GroupedBatches(LENGTHS, Batching(**SETTINGS, accumulate=accumulate, rank=r, world=world)) for r in range(world)
    ]
    for epoch in range(3):
        for batches in ranks:
            batches.set_epoch(epoch)
        drawn = [list(batches) for batches in ranks]
        assert {len(one) for one in drawn} == {len(ranks[0])}  # the same number in every epoch
        assert len(ranks[0]) % accumulate == 0
        assert sorted(i for one in drawn for batch in one for i in batch) == list(range(1001))
        for batch in (batch for one in drawn for batch in one):
            assert len(batch) <= 16 and LENGTHS[batch].max() * len(batch) <= 2000


def test_a_token_budget_leaves_little_padding_and_few_batches():
    batches = list(GroupedBatches(LENGTHS, Batching(64, seed=0, max_tokens=2000)))
    padded = sum(LENGTHS[batch].max() * len(batch) for batch in batches)
    assert padded < 1.15 * LENGTHS.sum()
    at_once = (LENGTHS > 1000).sum() + LENGTHS[LENGTHS < 1000].sum() / 2000  # one batch for a video, the others packed
    assert len(batches) < 1.2 * at_once


def test_batches_under_a_token_budget_are_shuffled_by_seed_and_epoch():
    batches = GroupedBatches(LENGTHS, Batching(**SETTINGS))
    first = list(batches)
    assert first == list(batches) == list(GroupedBatches(LENGTHS, Batching(**SETTINGS)))
    batches.set_epoch(1)
    second = list(batches)
    assert {frozenset(batch) for batch in first if len(batch) > 1}.isdisjoint(map(frozenset, second))


def test_a_sample_over_the_token_budget_is_an_error():
    with pytest.raises(
        BTCChatError, match="longest sample has about 1529 tokens, but a batch may only have 1000; raise --max_t"
    ):
        GroupedBatches(LENGTHS, Batching(8, seed=0, max_tokens=1000))


def test_too_few_samples_for_a_step_under_a_token_budget_are_an_error():
    assert len(GroupedBatches([5] * 4, Batching(9, seed=0, max_tokens=99, accumulate=4))) == 4
    with pytest.raises(BTCChatError, match="3 samples are fewer than the 4 batches of one step"):
        GroupedBatches([5] * 3, Batching(9, seed=0, max_tokens=99, accumulate=4))


# Loaders -------------------------------------------------------------------------------------------------------------


def talk(answer: str) -> list[dict]:
    return [{"from": "human", "value": "?"}, {"from": "gpt", "value": answer}]


def sample(record) -> dict:
    """The number in a record's answer, as a text of that many tokens."""
    number = int(record.conversations[-1]["value"])
    if record.where.startswith("bad"):
        raise BTCChatError("no such image")
    ids = torch.full((number % 7 + 1,), number)
    return {"input_ids": ids, "labels": ids, "frames": NO_FRAMES, "modality": "text", "cut": None}


def length(modality, frames, characters) -> int:
    return characters


def pad(samples: list[dict]) -> dict:
    return Processor(None, SimpleNamespace(pad_token_id=-1), None, None).collate(samples)


def numbers(batch: dict) -> list[int]:
    return batch["input_ids"][:, 0].tolist()


@pytest.fixture
def root(tmp_path):
    """Sets "rows" (100 to 139, JSONL), "tar" (0 to 59 in 6 shards), "bad" (two rows that do not make a sample)."""

    def text(answer) -> dict:
        return {"modality": "text", "conversations": talk(str(answer))}

    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(text(i)) for i in range(100, 140)))
    (tmp_path / "bad.jsonl").write_text("\n".join(json.dumps(text(i)) for i in range(2)))
    for number in range(6):
        shard(tmp_path / f"{number}.tar", [{"json": text(i)} for i in range(number * 10, number * 10 + 10)])
    (tmp_path / "sets.yaml").write_text(
        "rows: {annotation: rows.jsonl}\nbad: {annotation: bad.jsonl}\ntar: {annotation: '*.tar'}"
    )
    return tmp_path


def built(root, mixture: str, **options):
    return build_datasets(mixture, sample, data_root=root, folder=root, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_of_an_indexed_mixture_has_every_sample_once_with_any_number_of_workers(root, workers):
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    loader = train_loader(built(root, "rows"), pad, length, Batching(4), **options)
    epochs = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        epochs.append([numbers(batch) for batch in loader])
        assert sorted(sum(epochs[-1], [])) == list(range(100, 140))
    assert epochs[0] != epochs[1]
    assert len(loader) == 10


@pytest.mark.parametrize("readers", [1, 2, 3, 4, 6, 7, 20])  # 7 and more: fewer shards than readers
def test_every_streamed_record_is_in_one_share(root, readers):
    mixture = built(root, "tar")
    for epoch in range(2):
        shares = [[r.where for r in mixture.records(epoch, reader, readers)] for reader in range(readers)]
        assert all(shares)
        together = sum(shares, [])
        assert len(together) == len(set(together)) == 60
    assert list(mixture.records(0)) == list(mixture.records(0)) != list(mixture.records(1))


def test_with_as_many_shards_as_readers_each_reads_one(root):
    mixture = built(root, "tar")
    for reader in range(6):
        tens = {numbers(pad([mixture.sample(record)]))[0] // 10 for record in mixture.records(0, reader, 6)}
        assert len(tens) == 1


def test_streamed_and_indexed_sets_are_mixed(root):
    mixture = built(root, "tar*2+rows+rows@first:10")
    assert isinstance(mixture, StreamMixture)
    drawn = [numbers(pad([mixture.sample(record)]))[0] for record in mixture.records(0)]
    assert sorted(drawn) == sorted([*range(60)] * 2 + [*range(100, 140), *range(100, 110)])


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (2, 0), (3, 0), (1, 2)])
def test_streams_give_every_process_endless_batches(root, world, workers):
    readers = world * max(workers, 1)
    an_epoch = math.ceil(60 / readers / 4) * max(workers, 1)  # batches of one process
    drawn = []
    for rank in range(world):
        batching = Batching(4, rank=rank, world=world)
        loaders = [train_loader(built(root, "tar"), pad, length, batching, num_workers=workers) for _ in range(2)]
        batches, again = ([numbers(batch) for batch in islice(loader, 2 * an_epoch)] for loader in loaders)
        assert batches == again
        assert len(batches) == 2 * an_epoch
        drawn.append((sum(batches[:an_epoch], []), sum(batches[an_epoch:], [])))
    assert [sorted(sum(epoch, [])) for epoch in zip(*drawn, strict=True)] == [list(range(60))] * 2


def test_streamed_batches_keep_to_a_token_budget(root):
    loader = train_loader(built(root, "tar+rows"), pad, length, Batching(16, max_tokens=12))
    for batch in islice(loader, 40):
        longest = max(len(f"?{number}") for number in numbers(batch))
        assert longest * len(batch["input_ids"]) <= 12


def test_a_reader_without_records_is_an_error(root):
    loader = train_loader(built(root, "tar"), pad, length, Batching(4, rank=60, world=61))
    with pytest.raises(BTCChatError, match="the streamed mixture has too few records for reader 61 of 61"):
        next(iter(loader))


# Bad samples ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_smaller_by_its_bad_samples(root):
    loader = train_loader(built(root, "rows+bad", bad_samples="skip"), pad, length, Batching(6))
    batches = list(loader)
    assert sorted(fault for batch in batches for fault in batch["faults"]) == [
        "bad.jsonl row 1: no such image",
        "bad.jsonl row 2: no such image",
    ]
    assert sorted(sum(map(numbers, batches), [])) == list(range(100, 140))
    assert all(len(batch["modalities"]) + len(batch["faults"]) in (5, 6) for batch in batches)


def test_a_bad_sample_ends_the_run_unless_skipping_is_allowed(root):
    for mixture in ("bad", "tar+bad"):
        with pytest.raises(BTCChatError, match="^bad.jsonl row [12]: no such image$"):
            list(islice(train_loader(built(root, mixture), pad, length, Batching(6)), 20))


def test_a_batch_of_only_bad_samples_is_one_token_without_a_label(tmp_path):
    from tests.tiny import tiny_model

    batch = collate_good([BadSample("a"), BadSample("b")], pad)
    assert batch.pop("faults") == ["a", "b"] and batch.pop("cut") == []
    model = tiny_model(tmp_path)
    loss = model(**batch).loss
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_truncation_is_reported():
    whole, cut = ({**sample_of(3), "cut": text} for text in (None, "a row 1, 5 tokens too long"))
    assert collate_good([whole, cut], pad)["cut"] == ["a row 1, 5 tokens too long"]


def sample_of(tokens: int) -> dict:
    ids = torch.arange(tokens)
    return {"input_ids": ids, "labels": ids, "frames": NO_FRAMES, "modality": "text"}


def test_a_token_budget_holds_for_the_input_of_the_language_model(tmp_path, monkeypatch):
    """Short texts, for which padding matters."""
    from btcchat.train.train import SampleMaker
    from tests.tiny import tiny_model

    monkeypatch.setitem(TEMPLATES, "short", replace(TEMPLATES["v1"], system=""))
    model = tiny_model(tmp_path, conv_version="short")
    estimate = LengthEstimate(model.processor)
    talks = [talk("a house " * (i % 12 + 1)) for i in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"modality": "text", "conversations": t}) for t in talks))
    (tmp_path / "sets.yaml").write_text("rows: {annotation: rows.jsonl}")
    mixture = build_datasets("rows", SampleMaker(model.processor), data_root=tmp_path, folder=tmp_path)
    estimate.calibrate(mixture.some(60))
    given = []
    model.llm.get_decoder().register_forward_pre_hook(
        lambda decoder, args, kwargs: given.append(kwargs["inputs_embeds"].shape[:2].numel()), with_kwargs=True
    )
    longest = max(len(sample["input_ids"]) for sample in mixture)
    assert 20 < longest < 64
    max_tokens = 320
    for batch in train_loader(mixture, pad, estimate, Batching(60, max_tokens=max_tokens)):
        batch.pop("faults"), batch.pop("cut")
        model.train()(**batch)
    assert max_tokens / 2 < max(given) <= max_tokens


def test_a_tokenizer_of_short_tokens_is_taken_into_account(tmp_path):
    from tests.tiny import tiny_model

    processor = tiny_model(tmp_path).processor
    processor.config.model_max_length = 4096
    text = "zqxj " * 200
    record = Record("a row 1", "text", [], [{"from": "human", "value": "?"}, {"from": "gpt", "value": text}])
    real = len(processor(record, train=True)["input_ids"])
    estimate = LengthEstimate(processor)
    assert estimate("text", 0, characters(record)) < 0.8 * real
    estimate.calibrate([record])
    assert estimate("text", 0, characters(record)) == pytest.approx(real, rel=0.02)
