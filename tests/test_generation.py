"""Answers from batches: the decoding loop, sampling, streaming and beam search, on random models."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from btcchat import BTCChat, BTCChatError, Record, prompt, request
from btcchat.compat.decoding import new_tokens
from btcchat.decoding.answer_text import AnswerText, Detokenizer
from btcchat.decoding.options import GenerationOptions
from btcchat.decoding.sampling import choose_token
from btcchat.generation import Decoder, Generation, generate, generate_ids, stream
from btcchat.language_model import build_language_model
from btcchat.language_model.llama_tokenizer import LlamaTokenizer
from btcchat.layers.key_value_cache import COLUMNS, SPARE, KeyValueCache
from tests.tiny import qwen2_tokenizer, tiny_model

QUESTIONS = [
    "What changed?",
    "houses",
    "What changed between the two images, and where is it?",
    "two houses in the top",
]


def picture(seed: int) -> Image.Image:
    noise = torch.randint(0, 256, (32, 32, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(noise.to(torch.uint8).numpy(), "RGB")


def requests() -> list[Record]:
    """Different lengths, with and without images; the last two have equal lengths."""
    pairs = [request(q, "pair", [picture(n), picture(n + 9)]) for n, q in enumerate(QUESTIONS[:3])]
    text = [request(QUESTIONS[3], "text")]
    return [*pairs, *text, request(QUESTIONS[0], "image", picture(3)), request(QUESTIONS[0], "image", picture(4))]


def batch_of(model, records: list[Record]) -> dict:
    return model.processor.collate([model.processor(record, train=False) for record in records])


def with_language_model(model, **config):
    """The model with another random language model, e.g. with grouped queries."""
    attention = config.pop("attention", "sdpa")
    torch.manual_seed(7)
    model.llm = build_language_model(model.config.llm | config, attn_implementation=attention).eval()
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def batch(model):
    return batch_of(model, requests())


def embedded(model, batch):
    return model.embed(**{name: value for name, value in batch.items() if name != "labels"})


def prompts(model, asked: list[Record]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [embedded(model, batch_of(model, [one])).inputs_embeds[0] for one in asked]


def by_transformers(model, batch, count: int, num_beams: int = 1) -> list[list[int]]:
    """The output of transformers' own generate for a left-padded batch."""
    ends = prompt.end_ids(model.tokenizer, model.config.conv_version)
    with torch.no_grad():
        merged = embedded(model, batch)
        lengths = merged.attention_mask.sum(1)
        order = (torch.arange(merged.attention_mask.shape[1]) + lengths[:, None]) % merged.attention_mask.shape[1]
        ids = model.llm.generate(
            inputs_embeds=merged.inputs_embeds.gather(1, order[..., None].expand_as(merged.inputs_embeds)),
            attention_mask=merged.attention_mask.gather(1, order),
            max_new_tokens=count,
            do_sample=False,
            num_beams=num_beams,
            pad_token_id=model.tokenizer.pad_token_id,
            eos_token_id=ends,
            bos_token_id=model.tokenizer.pad_token_id,
        )
    cut = []
    for row in new_tokens(ids).tolist():
        end = next((place for place, id in enumerate(row) if id in ends), count)
        cut.append(row[: end + 1])
    return cut


# -- greedy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "grouped queries"])
def test_greedy_ids_equal_those_of_transformers(tmp_path, kind, attention):
    model = tiny_model(tmp_path, llm="qwen2" if kind == "qwen2" else "llama")
    groups = {"num_attention_heads": 4, "num_key_value_heads": 2} if kind == "grouped queries" else {}
    model = with_language_model(model, attention=attention, **groups)
    batch = batch_of(model, requests())
    ids = generate_ids(model, batch, GenerationOptions(max_new_tokens=20))
    assert ids == by_transformers(model, batch, 20)
    assert len({tuple(row) for row in ids}) > 3  # the rows differ


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_gives_the_answers_of_one_by_one(tmp_path, dtype):
    model = tiny_model(tmp_path).to(dtype)
    options = GenerationOptions(max_new_tokens=24)
    alone = [generate_ids(model, batch_of(model, [one]), options)[0] for one in requests()]
    with torch.no_grad():
        merged = [row.to(dtype) for row in prompts(model, requests())]
    decoder = Decoder(model)
    rows = [decoder.join(row, options) for row in merged]
    decoder.finish()
    assert [row.ids for row in rows] == alone


def test_32_captions_of_any_lengths_in_bfloat16_equal_those_one_by_one():
    """The packaged model: unlike in a toy model, the last bits decide between its nearly equal words."""
    model = BTCChat.from_pretrained(dtype="bfloat16", device="cpu")
    asked = [request("what " * (1 + n % 7) + "changed", "pair", [picture(n), picture(n + 40)]) for n in range(32)]
    merged = prompts(model, asked)
    assert len({len(row) for row in merged}) == 7
    options = GenerationOptions(max_new_tokens=12)

    def captions(rows: list[torch.Tensor]) -> list[list[int]]:
        decoder = Decoder(model)
        joined = [decoder.join(row, options) for row in rows]
        decoder.finish()
        return [row.ids for row in joined]

    together = captions(merged)
    assert together == [captions([row])[0] for row in merged] and len(set(map(tuple, together))) > 3


@pytest.mark.parametrize(("dtype", "passes"), [(torch.float32, 1), (torch.bfloat16, 6)])
def test_in_bfloat16_on_a_cpu_prompts_are_read_one_by_one(tmp_path, monkeypatch, dtype, passes):
    """Otherwise only CPUs with AMX give different sums, so answers alone do not prove this everywhere."""
    model = tiny_model(tmp_path).to(dtype)
    shapes, forward = [], model.llm.get_decoder().forward
    monkeypatch.setattr(
        model.llm.get_decoder(), "forward", lambda **x: shapes.append(x["inputs_embeds"].shape[:2]) or forward(**x)
    )
    generate(model, batch_of(model, requests()), GenerationOptions(1))
    assert len(shapes) == passes and sum(rows for rows, _ in shapes) == 6


def test_an_answer_ends_with_its_end_token(model, batch, monkeypatch):
    free = generate_ids(model, batch, GenerationOptions(max_new_tokens=12))
    end = free[0][5]
    monkeypatch.setattr(prompt, "end_ids", lambda *_: [end])
    ended = generate_ids(model, batch, GenerationOptions(max_new_tokens=12))
    assert ended == [row[: row.index(end) + 1] if end in row else row for row in free]
    assert len(ended[0]) <= 6


def test_a_wrong_number_of_options_is_an_error(model, batch):
    with pytest.raises(BTCChatError, match="got 2 generation options for 6 rows; give one, or one per row"):
        generate(model, batch, [GenerationOptions()] * 2)


# -- rows of different options, that join and leave --------------------------------------------------------------------

MIXED = [
    GenerationOptions(max_new_tokens=3),
    GenerationOptions(max_new_tokens=20, temperature=1.5, seed=1),
    GenerationOptions(max_new_tokens=14, repetition_penalty=1.8),
    GenerationOptions(max_new_tokens=9, temperature=0.7, top_p=0.8, seed=2),
    GenerationOptions(max_new_tokens=1),
    GenerationOptions(max_new_tokens=16, temperature=3.0, seed=3, stop=("e",)),
]


def test_rows_with_different_options_get_the_answers_they_get_alone(model, batch):
    alone = [generate_ids(model, batch_of(model, [q]), o)[0] for q, o in zip(requests(), MIXED, strict=True)]
    assert generate_ids(model, batch, MIXED) == alone
    assert len({len(row) for row in alone}) > 3


def test_the_same_seed_gives_the_same_answer_anywhere_in_any_batch(model):
    asked, sampled = requests(), GenerationOptions(max_new_tokens=20, temperature=2.0, seed=11)
    alone = generate(model, batch_of(model, asked[:1]), sampled)[0]
    for place in (0, 2, 4):
        others = [GenerationOptions(max_new_tokens=20, temperature=2.0)] * 4
        order = [*asked[1 : place + 1], asked[0], *asked[place + 1 : 5]]
        answers = generate(model, batch_of(model, order), [*others[:place], sampled, *others[place:]])
        assert answers[place] == alone
    assert generate(model, batch_of(model, asked[:1]), GenerationOptions(20, temperature=2.0, seed=12))[0] != alone


def test_sampling_in_two_threads_is_repeatable_and_keeps_the_global_random_state(model, batch):
    states = torch.random.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    options = [GenerationOptions(30, temperature=2.0, seed=seed) for seed in (5, 6)]
    expected = [generate(model, batch, one) for one in options]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda one: generate(model, batch, one), options * 3))
    assert found == expected * 3 and expected[0] != expected[1]
    assert torch.equal(torch.random.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1] and random.getstate() == states[2]


def test_without_a_seed_two_answers_differ(model, batch):
    options = GenerationOptions(20, temperature=5.0)
    assert generate(model, batch, options) != generate(model, batch, options)


def test_a_row_that_joins_later_gets_the_answer_it_gets_alone(model):
    embeds, options = prompts(model, requests()), [GenerationOptions(22), *MIXED[1:]]
    alone = [generate_ids(model, batch_of(model, [q]), o)[0] for q, o in zip(requests(), options, strict=True)]
    decoder, rows = Decoder(model), []
    for number, (one, own) in enumerate(zip(embeds, options, strict=True)):
        rows.append(decoder.join(one, own))
        for _ in range(number):  # 0 to 5 steps between two joins; the rows of 1 and 3 tokens leave meanwhile
            decoder.step()
    decoder.finish()
    assert [row.ids for row in rows] == alone
    assert not decoder.active and not decoder.waiting


def test_a_step_returns_the_answers_that_got_a_token_and_finished_ones_leave(model):
    decoder = Decoder(model)
    embeds = prompts(model, requests()[:2])
    short, long = (decoder.join(one, GenerationOptions(n)) for one, n in zip(embeds, (1, 3), strict=True))
    assert decoder.step() == [short, long] and decoder.active == [long]
    assert (short.finish_reason, len(short.ids), long.finish_reason) == ("length", 1, None)
    assert [decoder.step() for _ in range(3)] == [[long], [long], []]
    assert (long.finish_reason, len(long.ids)) == ("length", 3)


def test_a_cancelled_row_stops_and_the_others_are_not_affected(model):
    options = GenerationOptions(12)
    alone = [generate_ids(model, batch_of(model, [one]), options)[0] for one in requests()]
    decoder = Decoder(model)
    rows = [decoder.join(one, options) for one in prompts(model, requests())]
    rows[5].cancel()  # before its prompt is read
    for _ in range(4):
        decoder.step()
    rows[0].cancel()
    decoder.finish()
    assert [row.finish_reason for row in rows] == ["cancelled", *["length"] * 4, "cancelled"]
    assert [row.ids for row in rows] == [alone[0][:4], *alone[1:5], []]


def test_an_answer_fits_in_the_room_that_its_prompt_leaves(model, batch, monkeypatch):
    lengths = [len(one) for one in prompts(model, requests())]
    monkeypatch.setitem(model.config.llm, "tokenizer_model_max_length", max(lengths) + 2)
    ids = generate_ids(model, batch, GenerationOptions(max_new_tokens=8))
    assert list(map(len, ids)) == [min(8, max(lengths) + 2 - length) for length in lengths]
    monkeypatch.setitem(model.config.llm, "tokenizer_model_max_length", max(lengths))
    with pytest.raises(BTCChatError, match=rf"the prompt has {max(lengths)} tokens .*, but the model reads at most"):
        generate(model, batch)


def test_processes_that_share_their_weights_make_the_same_number_of_passes(model, monkeypatch):
    """Under ZeRO-3 a finished process keeps running passes with the others: the same modules in the same order."""
    calls, others = [], iter([1] * 7 + [0] * 9)  # another process makes 7 passes
    for name in ("get_input_embeddings", "get_decoder", "get_output_embeddings"):
        module, forward = getattr(model.llm, name)(), getattr(model.llm, name)().forward
        monkeypatch.setattr(module, "forward", lambda *x, n=name, f=forward, **y: calls.append(n) or f(*x, **y))
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda working: working.add_(next(others)))
    embeds = prompts(model, requests()[:2])
    calls.clear()
    decoder = Decoder(model)
    decoder._in_step = True
    rows = [decoder.join(one, GenerationOptions(3)) for one in embeds]
    decoder.finish()
    assert calls == ["get_input_embeddings", "get_decoder", "get_output_embeddings"] * 7
    assert [len(row.ids) for row in rows] == [3, 3]


# -- the cache -------------------------------------------------------------------------------------------------------


def test_steps_reuse_memory_and_a_join_that_needs_more_gets_more(model):
    embeds = prompts(model, requests())
    decoder = Decoder(model)
    cache = decoder._cache
    first = decoder.join(embeds[0], GenerationOptions(8))
    decoder.step()
    place = [tensor.data_ptr() for tensor in (*cache.keys, *cache.values)]
    assert cache.keys[0].shape[0] == 1 and cache.keys[0].shape[2] % COLUMNS == 0
    decoder.step()
    assert [tensor.data_ptr() for tensor in (*cache.keys, *cache.values)] == place
    decoder.join(embeds[1], GenerationOptions(400))
    decoder.step()
    assert cache.keys[0].shape[0] == 2 and cache.keys[0].shape[2] >= 400
    decoder.finish()
    assert first.ids == generate_ids(model, batch_of(model, requests()[:1]), GenerationOptions(8))[0]
    decoder.join(embeds[0], GenerationOptions(8))
    decoder.step()
    assert cache.keys[0].shape[2] < 400  # an idle cache shrinks after its longest answer


def test_short_answers_and_a_long_one_do_not_add_up_to_many_long_ones(model):
    """In a server that is never empty the cache would keep the most rows and the most columns of all times."""
    embeds, options = prompts(model, requests()), GenerationOptions(8)
    decoder = Decoder(model)
    cache = decoder._cache
    rows = [decoder.join(embeds[0], options) for _ in range(16)]
    decoder.step()
    for row in rows[2:]:
        row.cancel()
    long = decoder.join(embeds[1], GenerationOptions(400))
    decoder.step()
    rows_now, _, columns_now, _ = cache.keys[0].shape
    assert columns_now >= 400 and rows_now * columns_now <= SPARE * 3 * 512
    decoder.join(embeds[0], options)
    decoder.step()
    long.cancel()
    decoder.finish()
    expected = generate_ids(model, batch_of(model, requests()[:1]), options)[0]
    assert rows[0].ids == rows[1].ids == expected


def test_the_last_row_replaces_one_that_leaves():
    cache = KeyValueCache()
    cache.reserve(3, 4)
    cache.keys = [torch.arange(3.0)[:, None, None, None].expand(3, 1, cache.columns, 2).clone()]
    cache.values = [cache.keys[0] + 10]
    cache.lengths, cache._written, cache._room = [4, 1, 2], [4, 4, 4], [4, 4, 4]
    cache.remove(0)
    assert cache.lengths == [2, 1]
    assert cache.keys[0][:2, 0, 0, 0].tolist() == [2, 1] and cache.values[0][:2, 0, 0, 0].tolist() == [12, 11]
    assert not cache.keys[0][2, :, :4].any()


@pytest.mark.parametrize("lengths", [(9, 8), (9, 7), (9, 9)])
def test_a_row_does_not_see_the_columns_that_only_longer_rows_have(model, lengths):
    embeds = torch.randn(2, 10, model.llm.config.hidden_size, generator=torch.Generator().manual_seed(1))
    decoder, found = model.llm.get_decoder(), []
    for rows in ((0, 1), (0,), (1,)):
        cache = KeyValueCache()
        cache.reserve(len(rows), 16)
        own = [lengths[row] for row in rows]
        with torch.no_grad():
            cache.prefill(decoder, embeds[list(rows), : max(own)], own)
            found.append(cache.extend(decoder, embeds[list(rows), -1:]))
    torch.testing.assert_close(found[0], torch.cat(found[1:]), rtol=1e-4, atol=1e-5)


# -- values that are not finite --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"num_beams": 2}])
def test_weights_that_give_nan_are_an_error_and_not_an_empty_answer(tmp_path, options):
    model = tiny_model(tmp_path)
    model.llm.lm_head.weight.data[3] = torch.nan
    with pytest.raises(BTCChatError, match="values that are not finite"):
        generate(model, batch_of(model, requests()), GenerationOptions(**options))
    with pytest.raises(BTCChatError, match="values that are not finite"):
        list(stream(model, batch_of(model, requests()[:1]), GenerationOptions(**options)))


def test_a_row_of_nan_affects_neither_the_others_nor_the_row_that_replaces_it(model):
    options = GenerationOptions(10)
    embeds = prompts(model, requests())
    alone = [generate_ids(model, batch_of(model, [one]), options)[0] for one in requests()]
    decoder = Decoder(model)
    rows = [decoder.join(embeds[0] * torch.nan, options), *(decoder.join(one, options) for one in embeds[1:])]
    decoder.step()
    assert rows[0].finish_reason == "error" and rows[0].error and rows[0].ids == []
    later = decoder.join(embeds[0], options)
    decoder.finish()
    assert [row.ids for row in (later, *rows[1:])] == alone


# -- sampling, by hand -----------------------------------------------------------------------------------------------

LOGITS = torch.tensor([0.5, 0.25, 0.2, 0.05]).log()


def drawn(uniform: float, logits: torch.Tensor = LOGITS, written: tuple[int, ...] = (), **options) -> int:
    return choose_token(logits, GenerationOptions(**{"temperature": 1.0, **options}), written, uniform)


def test_a_uniform_number_selects_a_token_in_proportion_to_its_probability():
    assert [drawn(u) for u in (0.0, 0.49, 0.51, 0.74, 0.76, 0.94, 0.96, 1 - 2**-53)] == [0, 0, 1, 1, 2, 2, 3, 3]
    shares = np.bincount([drawn((n + 0.5) / 1000) for n in range(1000)]) / 1000
    np.testing.assert_allclose(shares, LOGITS.exp(), atol=2e-3)


def test_temperature_flattens_or_sharpens():
    squares = LOGITS.mul(2).softmax(-1).tolist()  # temperature 1/2 squares the probabilities
    assert squares[0] == pytest.approx(0.25 / 0.355)
    assert [drawn(u, temperature=0.5) for u in (squares[0] - 0.01, squares[0] + 0.01)] == [0, 1]
    assert {drawn(u, temperature=0.001) for u in (0.0, 0.5, 0.999)} == {0}
    assert drawn(0.999, logits=LOGITS * 1e36, temperature=0.001) == 0


def test_top_p_keeps_the_fewest_tokens_whose_probabilities_reach_it():
    order = LOGITS[[3, 1, 0, 2]]  # tokens 2, 1, 3, 0 by probability
    almost = 1 - 2**-53
    assert drawn(almost, order, top_p=0.45) == drawn(almost, order, top_p=1e-9) == 2
    assert [drawn(u, order, top_p=0.7) for u in (0.66, 0.67)] == [2, 1]  # 0.5 and 0.25 of 0.75
    assert drawn(almost, order, top_p=0.9) == 3 and drawn(almost, order, top_p=0.96) == 0
    many = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    p, tokens = many.double().softmax(-1).sort(descending=True)
    for top_p in (0.1, 0.5, 0.99):
        nucleus = tokens[: int((p.cumsum(0) < top_p).sum()) + 1].tolist()
        found = {drawn((n + 0.5) / 20000, many, top_p=top_p) for n in range(0, 20000, 7)}
        assert found <= set(nucleus) and len(found) > len(nucleus) / 3


def test_a_token_with_probability_0_is_never_drawn():
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf])
    assert {drawn(u, logits) for u in (0.0, 0.25, 0.5, 0.75, 1 - 2**-53)} == {1, 3}


def test_the_repetition_penalty_divides_positive_and_multiplies_negative_logits_of_written_tokens():
    logits = torch.tensor([2.0, 1.9, -1.0, -1.5])
    greedy = {"temperature": 0.0, "repetition_penalty": 2.0}
    assert drawn(0, logits, (), **greedy) == 0
    assert drawn(0, logits, (0, 0), **greedy) == 1  # applied once, however often it was written
    assert drawn(0, logits, (0, 1), **greedy) == 0
    assert drawn(0, logits[2:], (0,), **greedy) == 1  # -1 becomes -2
    assert logits.tolist() == [2.0, pytest.approx(1.9), -1.0, -1.5]


def test_the_repetition_penalty_makes_an_answer_repeat_less(model, batch):
    plain, penalised = (
        generate_ids(model, batch, GenerationOptions(30, repetition_penalty=penalty)) for penalty in (1.0, 5.0)
    )
    assert sum(len(set(row)) for row in penalised) > sum(len(set(row)) for row in plain)


# -- stop strings and streaming --------------------------------------------------------------------------------------


def test_a_stop_string_over_several_tokens_ends_an_answer_and_is_cut_off(model, batch):
    options = GenerationOptions(30, temperature=3.0, seed=4)
    free, ids = generate(model, batch, options), generate_ids(model, batch, options)
    stop = free[0][9:14]  # five characters
    assert len(model.tokenizer(stop, add_special_tokens=False).input_ids) > 1
    stopped = GenerationOptions(30, temperature=3.0, seed=4, stop=("never written", stop))
    assert generate(model, batch, stopped)[0] == free[0][: free[0].index(stop)].strip()
    few = generate_ids(model, batch, stopped)[0]
    assert few == ids[0][: len(few)] and len(few) < len(ids[0])
    texts = model.tokenizer.decode(few, skip_special_tokens=True), model.tokenizer.decode(few[:-1])
    assert stop in texts[0] and stop not in texts[1]  # no token more than needed


def test_the_templates_own_stop_string_ends_an_answer(tmp_path):
    model = tiny_model(tmp_path, conv_version="plain")
    decoder = Decoder(model)
    row = decoder.prepare(4, GenerationOptions(stop=(".",)))
    assert row._text.stop == ("\n", ".")


@pytest.mark.parametrize("options", [{}, {"temperature": 4.0, "seed": 3}, {"num_beams": 2}])
@pytest.mark.parametrize("llm", ["llama", "qwen2"])
def test_the_pieces_of_a_stream_make_the_answer(tmp_path, llm, options):
    model = tiny_model(tmp_path, llm=llm)
    for one in requests()[:3]:
        batch = batch_of(model, [one])
        answer = generate(model, batch, GenerationOptions(60, **options))[0]
        stops = () if options.get("num_beams") else (answer[10:13],)
        for stop in ((), stops):
            own = GenerationOptions(60, stop=stop, **options)
            pieces = list(stream(model, batch, own))
            assert "".join(pieces).strip() == generate(model, batch, own)[0]
            assert all(pieces) and (len(pieces) > 3 or stop or options.get("num_beams"))


def test_a_closed_stream_runs_no_more_steps_and_starts_no_thread(model, monkeypatch):
    import threading

    steps, forward = [], model.llm.get_decoder().forward
    monkeypatch.setattr(model.llm.get_decoder(), "forward", lambda **x: steps.append(1) or forward(**x))
    pieces = stream(model, batch_of(model, requests()[:1]), GenerationOptions(200, temperature=1.0, seed=0))
    threads = threading.active_count()
    next(pieces)
    assert threading.active_count() == threads
    done = len(steps)
    pieces.close()
    assert 0 < done == len(steps) < 20


TEXTS = ["Zwölf Häuser 建筑物 🏠🏠 été", "  two  houses .\n\nIt 's here , is n't it ?  ", "�� broken", "", " ", "a\tb"]


def tokenizers(folder) -> dict:
    qwen2 = qwen2_tokenizer()
    cleaning = qwen2_tokenizer()
    cleaning.clean_up_tokenization_spaces = True
    return {"sentencepiece": tiny_model(folder).tokenizer, "byte-level": qwen2, "byte-level, cleaning up": cleaning}


def pieces_of(tokenizer, ids: list[int], stop: tuple[str, ...] = ()) -> tuple[list[str], str]:
    """The pieces that are read after each token, until the text stops; and the whole text."""
    text = AnswerText([], Detokenizer(tokenizer), stop)
    pieces = []
    for id in ids:
        text.ids.append(id)
        pieces.append(text.read(False))
        if text.stopped():
            break
    return [*pieces, text.read(True)], text.whole()


@pytest.mark.parametrize("kind", ["sentencepiece", "byte-level", "byte-level, cleaning up"])
def test_streamed_text_equals_the_decoded_text_without_half_characters(tmp_path, kind):
    tokenizer = tokenizers(tmp_path)[kind]
    chance = random.Random(0)
    written = [tokenizer(text, add_special_tokens=False).input_ids * times for text in TEXTS for times in (1, 4)]
    noise = [[chance.randrange(len(tokenizer)) for _ in range(80)] for _ in range(20)]
    spaces = tokenizer(". , ? 's n't ' it", add_special_tokens=False).input_ids
    noise += [[chance.choice(spaces + written[0]) for _ in range(60)] for _ in range(20)]
    for ids in [*written, *noise]:
        pieces, whole = pieces_of(tokenizer, ids)
        decoded = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if tokenizer.clean_up_tokenization_spaces:  # transformers 5 leaves this to the caller
            decoded = tokenizer.clean_up_tokenization(decoded)
        assert "".join(pieces) == whole == decoded
    for ids in written[:4]:
        assert "�" not in "".join(pieces_of(tokenizer, ids)[0])
    assert len(list(filter(None, pieces_of(tokenizer, written[0])[0]))) > 10  # it does stream


@pytest.mark.parametrize("kind", ["sentencepiece", "byte-level", "byte-level, cleaning up"])
@pytest.mark.parametrize("stop", [("物 🏠",), ("zzz", "🏠 é"), ("Häuserx", "été")])
def test_a_stream_never_shows_the_beginning_of_a_stop_string(tmp_path, kind, stop):
    tokenizer = tokenizers(tmp_path)[kind]
    ids = tokenizer(TEXTS[0] + " und mehr", add_special_tokens=False).input_ids
    pieces, whole = pieces_of(tokenizer, ids, stop)
    assert "".join(pieces) == whole == TEXTS[0][: TEXTS[0].index(stop[-1])]


def test_the_cost_of_streaming_does_not_grow_with_the_answer(tmp_path):
    tokenizer = tiny_model(tmp_path).tokenizer
    text = AnswerText([], Detokenizer(tokenizer), ())
    sizes, raw = [], text.detokenizer.raw
    text.detokenizer.raw = lambda ids: sizes.append(len(ids)) or raw(ids)
    for id in tokenizer(TEXTS[0] * 10, add_special_tokens=False).input_ids:
        text.ids.append(id)
        text.read(False)
    assert max(sizes) < 30


def test_a_sentencepiece_tokenizer_is_among_those_tested(tmp_path):
    assert isinstance(tokenizers(tmp_path)["sentencepiece"], LlamaTokenizer)


# -- beam search -----------------------------------------------------------------------------------------------------


def test_beam_search_equals_that_of_transformers_even_in_a_batch_with_greedy_rows(model):
    asked = requests()[:3]
    beams, greedy = GenerationOptions(10, num_beams=3), GenerationOptions(6)
    batch = batch_of(model, asked)
    expected = by_transformers(model, batch, 10, num_beams=3)
    assert generate_ids(model, batch, beams) == expected
    first_two = generate_ids(model, batch, [beams, greedy, beams])
    assert first_two == [expected[0], by_transformers(model, batch, 6)[1], expected[2]]
    assert expected != by_transformers(model, batch, 10)


def test_an_answer_of_beam_search_ends_at_its_end_token_without_padding(model, batch, monkeypatch):
    found = by_transformers(model, batch, 10, num_beams=2)
    monkeypatch.setattr(prompt, "end_ids", lambda *_: sorted(set(found[0][3:] + found[3][3:])))
    ids = generate_ids(model, batch, GenerationOptions(10, num_beams=2))
    assert ids == by_transformers(model, batch, 10, num_beams=2)
    assert len({len(row) for row in ids}) > 1


def test_a_decoder_refuses_beam_search(model):
    with pytest.raises(BTCChatError, match="num_beams is 2; a Decoder has no beam search; call generate instead"):
        Decoder(model).join(prompts(model, requests()[:1])[0], GenerationOptions(num_beams=2))


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": "5"}, "max_new_tokens is '5'; it must be a whole number of at least 1"),
        ({"max_new_tokens": True}, "max_new_tokens is True; it must be a whole number of at least 1"),
        ({"max_new_tokens": 5.0}, "max_new_tokens is 5.0; it must be a whole number of at least 1"),
        ({"max_new_tokens": None}, "max_new_tokens is None; it must be a whole number of at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; it must be a whole number of at least 1"),
        ({"num_beams": 0}, "num_beams is 0; it must be a whole number from 1 to 256"),
        ({"temperature": "hot"}, "temperature is 'hot'; it must be 0 (greedy) or a number from 0.001 to 100"),
        ({"temperature": -1.0}, "temperature is -1.0; it must be 0 (greedy) or a number from 0.001 to 100"),
        ({"temperature": 1e-40}, "temperature is 1e-40; it must be 0 (greedy) or a number from 0.001 to 100"),
        ({"temperature": float("nan")}, "temperature is nan; it must be 0 (greedy) or a number from 0.001 to 100"),
        ({"temperature": float("inf")}, "temperature is inf; it must be 0 (greedy) or a number from 0.001 to 100"),
        ({"top_p": 0.0}, "top_p is 0.0; it must be a number above 0 and at most 1"),
        ({"top_p": 1.01}, "top_p is 1.01; it must be a number above 0 and at most 1"),
        ({"top_p": False}, "top_p is False; it must be a number above 0 and at most 1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0; it must be a number from 0.01 to 100 (1 is no penalty)"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty is nan; it must be a number from 0.01 to 100 (1 is"),
        ({"seed": 2**64}, "seed is 18446744073709551616; it must be a whole number from 0 to 2**64 - 1, or None"),
        ({"seed": -1}, "seed is -1; it must be a whole number from 0 to 2**64 - 1, or None"),
        ({"seed": 1.0}, "seed is 1.0; it must be a whole number from 0 to 2**64 - 1, or None"),
        ({"stop": "."}, "stop is '.'; it must be a list of strings that are not empty, such as ['.']"),
        ({"stop": ("",)}, "stop is ('',); it must be a list of strings that are not empty, such as ['.']"),
        ({"stop": [3]}, "stop is [3]; it must be a list of strings that are not empty, such as ['.']"),
        ({"num_beams": 2, "temperature": 0.5}, "temperature is 0.5 and num_beams is 2; one samples and the other"),
        ({"num_beams": 2, "top_p": 0.5}, "top_p is 0.5 and num_beams is 2; beam search does not use top_p: set"),
        ({"num_beams": 2, "repetition_penalty": 2}, "repetition_penalty is 2.0 and num_beams is 2; beam search does"),
    ],
)
def test_an_invalid_option_is_an_error_with_the_accepted_values(options, message):
    with pytest.raises(BTCChatError) as error:
        GenerationOptions(**options)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_options_are_plain_values_that_can_be_compared_and_hashed():
    given = GenerationOptions(np.int64(5), temperature=np.float32(0.5), seed=np.int64(3), stop=["a"])
    assert given == GenerationOptions(5, 0.5, seed=3, stop=("a",)) and hash(given)
    assert (type(given.max_new_tokens), type(given.temperature), type(given.seed)) == (int, float, int)


def test_every_option_has_a_help_text():
    assert all(option.metadata["help"] for option in fields(GenerationOptions))


def test_a_generation_can_be_cancelled_only_while_it_is_written():
    done = Generation(GenerationOptions(), 5, SimpleNamespace(ids=[], stopped=lambda: True))
    done.add(3, [])
    done.cancel()
    assert done.finish_reason == "stop"
