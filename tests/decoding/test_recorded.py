"""Steps in a few shapes, which a GPU records, give the answers of the plain loop; here computed on a CPU."""

import gc
import logging
import weakref
from contextlib import nullcontext

import pytest
import torch

from btcchat import request
from btcchat.checkpoint import adapter
from btcchat.compat.decoding import takes_finished_masks
from btcchat.decoding import recorded
from btcchat.generation import Decoder, GenerationOptions, generate_ids
from btcchat.language_model import build_language_model
from btcchat.layers.key_value_cache import KeyValueCache
from tests.tiny import tiny_model

pytestmark = pytest.mark.skipif(not takes_finished_masks(), reason="the plain loop is used on this transformers")
QUESTIONS = ("houses", "What changed between the two images?", "two", "the road on the left side", "what", "trees")
OPTIONS = GenerationOptions(24)


@pytest.fixture(scope="module", params=["llama", "qwen2", "grouped queries"])
def model(request, tmp_path_factory):
    model = tiny_model(tmp_path_factory.mktemp("model"), llm="qwen2" if request.param == "qwen2" else "llama")
    if request.param == "grouped queries":
        torch.manual_seed(7)
        config = model.config.llm | {"num_attention_heads": 4, "num_key_value_heads": 2}
        model.llm = build_language_model(config).eval()
    return model


@pytest.fixture
def on_gpu(monkeypatch):
    """Pretend the weights are on a GPU; a CPU runs steps without recording. Shapes are small: answers cross several."""
    monkeypatch.setattr(recorded, "can_record", lambda decoder: decoder not in recorded._failed)
    monkeypatch.setattr(recorded, "COLUMNS", 16)


def batch_of(model, count: int = 6) -> dict:
    return model.processor.collate([model.processor(request(q, "text"), train=False) for q in QUESTIONS[:count]])


def prompts(model) -> list[torch.Tensor]:
    with torch.no_grad():
        merged = model.embed(**{k: v for k, v in batch_of(model).items() if k != "labels"})
    lengths = merged.attention_mask.sum(1)
    return [row[:length] for row, length in zip(merged.inputs_embeds, lengths, strict=True)]


def test_answers_equal_those_of_the_plain_loop(model, monkeypatch, on_gpu):
    found = generate_ids(model, batch_of(model), OPTIONS)
    monkeypatch.setattr(recorded, "can_record", lambda decoder: False)
    assert found == generate_ids(model, batch_of(model), OPTIONS)
    assert len({tuple(row) for row in found}) > 3


def test_rows_that_join_and_leave_do_not_change_the_others(model, on_gpu):
    alone = [generate_ids(model, batch_of(model), OPTIONS)[i] for i in range(6)]
    embeds, decoder = prompts(model), Decoder(model)
    assert isinstance(decoder._cache, recorded.RecordedCache)
    rows = [decoder.join(one, OPTIONS) for one in embeds[:3]]
    for _ in range(5):
        decoder.step()
    rows += [decoder.join(one, OPTIONS) for one in embeds[3:]]
    decoder.step()
    cancelled = decoder.join(embeds[0], OPTIONS)
    decoder.step()
    cancelled.cancel()
    decoder.finish()
    assert [row.ids for row in rows] == alone


def test_a_step_has_one_of_few_shapes(model, on_gpu, monkeypatch):
    shapes, forward = [], model.llm.get_decoder().forward
    monkeypatch.setattr(
        model.llm.get_decoder(), "forward", lambda **x: shapes.append((*x["inputs_embeds"].shape[:2],)) or forward(**x)
    )
    generate_ids(model, batch_of(model, 3), GenerationOptions(8))
    assert {shape for shape in shapes if shape[1] == 1} <= {(4, 1), (2, 1), (1, 1)}


def test_the_next_decoder_reuses_memory_and_shapes(model, on_gpu):
    generate_ids(model, batch_of(model), OPTIONS)
    gc.collect()
    decoder, other = Decoder(model), Decoder(model)
    cache = decoder._cache
    assert cache._steps and cache.keys and not cache.lengths
    assert other._cache is not cache and not other._cache.keys, "two decoders never share a cache"
    steps, keys = dict(cache._steps), cache.keys[0]
    decoder.join(prompts(model)[0], OPTIONS)
    decoder.step()
    assert cache.keys[0] is keys and cache._steps.items() >= steps.items()
    decoder.join(prompts(model)[0], GenerationOptions(200))  # more than fits
    decoder.step()
    assert cache.keys[0] is not keys and not cache._steps.keys() & steps.keys(), "graphs hold the old addresses"


def test_an_abandoned_answer_leaves_an_empty_cache(model, on_gpu):
    decoder = Decoder(model)
    decoder.join(prompts(model)[0], OPTIONS)
    decoder.step()
    cache = decoder._cache
    del decoder
    gc.collect()
    assert cache.lengths == [] and recorded._idle[model.llm.get_decoder()] is cache


def test_different_weights_get_a_different_cache(model, on_gpu):
    cache = Decoder(model)._cache
    gc.collect()
    assert Decoder(model)._cache is cache
    gc.collect()
    weight = model.llm.get_decoder().layers[0].mlp.up_proj.weight
    weight.data = weight.data.clone()
    assert Decoder(model)._cache is not cache


def test_an_adapter_that_is_switched_off_has_its_own_steps(tmp_path, on_gpu, monkeypatch):
    """A graph repeats what it recorded, with the adapter or without it."""
    pytest.importorskip("peft")
    model = tiny_model(tmp_path)
    adapter.attach(model.llm, target_modules=["q_proj", "up_proj"], r=2)
    for name, parameter in model.llm.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    layers = list(adapter.lora_layers(model.llm).values())

    def answers() -> tuple:
        with_adapter = generate_ids(model, batch_of(model), OPTIONS)
        with adapter.off(model):
            return with_adapter, generate_ids(model, batch_of(model), OPTIONS)

    def replay(step, compute):
        now = layers[0].disable_adapters
        step.launches = getattr(step, "launches", now)
        for layer in layers:
            layer._disable_adapters = step.launches
        hidden = compute()
        for layer in layers:
            layer._disable_adapters = now
        return hidden

    with monkeypatch.context() as patch:
        patch.setattr(recorded, "can_record", lambda decoder: False)
        expected = answers()
    assert expected[0] != expected[1]
    monkeypatch.setattr(recorded._Step, "__call__", replay)
    assert answers() == expected
    assert answers() == expected


@pytest.mark.parametrize("when", ["prompts are read", "the cache grows"])
def test_after_running_out_of_memory_the_next_answers_are_as_before(model, on_gpu, monkeypatch, when):
    expected = generate_ids(model, batch_of(model), OPTIONS)
    gc.collect()
    recorded._idle.clear()
    allocate, allocated = torch.Tensor.new_zeros, []

    def too_little(tensor, *size, **options):
        allocated.append(size)
        if len(size) == 4 and sum(len(other) == 4 for other in allocated) == 2:  # the values of the first layer
            raise torch.OutOfMemoryError("CUDA out of memory")
        return allocate(tensor, *size, **options)

    first, *others = prompts(model)
    decoder = Decoder(model)
    decoder.join(first, OPTIONS)
    if when == "the cache grows":
        decoder.step()
    for other in others:
        decoder.join(other, GenerationOptions(200))
    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(torch.Tensor, "new_zeros", too_little)
        decoder.step()
    del decoder
    gc.collect()
    assert generate_ids(model, batch_of(model), OPTIONS) == expected
    assert model.llm.get_decoder() not in recorded._failed


def test_a_step_that_fails_keeps_no_memory_while_it_is_repeated(model, on_gpu, monkeypatch):
    class Activations:
        pass

    held = []

    def fail(step, compute):
        activations = Activations()
        held.append(weakref.ref(activations))
        raise RuntimeError("CUDA out of memory")

    def extend(*arguments):
        assert held[0]() is None
        return plain(*arguments)

    plain = KeyValueCache.extend
    monkeypatch.setattr(recorded._Step, "__call__", fail)
    monkeypatch.setattr(KeyValueCache, "extend", extend)
    monkeypatch.setattr(recorded, "_failed", type(recorded._failed)())
    generate_ids(model, batch_of(model), OPTIONS)
    assert held


def test_answers_under_autocast_leave_no_cache_of_its_dtypes(model, on_gpu, monkeypatch):
    expected, enabled = generate_ids(model, batch_of(model), OPTIONS), torch.is_autocast_enabled
    recorded._idle.clear()
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device="cpu": enabled(device))
    with torch.autocast("cpu", torch.bfloat16):
        generate_ids(model, batch_of(model), OPTIONS)
    assert generate_ids(model, batch_of(model), OPTIONS) == expected


def test_a_step_that_cannot_be_recorded_is_computed_as_before_and_logged_once(model, on_gpu, monkeypatch, caplog):
    def fail(self, compute):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    expected = generate_ids(model, batch_of(model), OPTIONS)
    monkeypatch.setattr(recorded._Step, "__call__", fail)
    monkeypatch.setattr(recorded, "_failed", type(recorded._failed)())
    with caplog.at_level(logging.WARNING):
        assert [generate_ids(model, batch_of(model), OPTIONS) for _ in range(2)] == [expected] * 2
    [line] = [record.message for record in caplog.records]
    assert "not permitted when stream is capturing" in line and "more" not in line
    assert type(Decoder(model)._cache) is KeyValueCache


def test_a_step_is_computed_once_then_recorded_then_repeated(monkeypatch):
    """With a fake graph that replays by calling the function."""
    calls = []

    class Graph:
        def replay(self):
            calls.append("replay")

    class Capture:
        def __init__(self, graph, **options):
            assert options == {"capture_error_mode": "thread_local"}

        def __enter__(self):
            calls.append("record")

        def __exit__(self, *fault):
            return None

    class OnGpu:
        device = torch.device("cuda")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    step = recorded._Step(torch.zeros(1, 1, 2), 1)
    step.inputs = OnGpu()
    for _ in range(4):
        assert step(lambda: calls.append("compute") or "hidden") == "hidden"
    assert calls == ["compute", "record", "compute", "replay", "replay", "replay"]


def test_flash_attention_is_replaced_during_a_step(model, on_gpu):
    """It accepts no finished mask; on a CPU it could not run at all."""
    decoder = model.llm.get_decoder()
    expected = generate_ids(model, batch_of(model), OPTIONS)
    cache, inputs = Decoder(model)._cache, prompts(model)[0][None]
    cache.reserve(1, 32)
    with torch.no_grad():
        cache.prefill(decoder, inputs, [inputs.shape[1]])
        before = decoder.config._attn_implementation
        decoder.config._attn_implementation = "flash_attention_2"
        try:
            token = model.llm.get_input_embeddings()(torch.tensor([[expected[0][0]]]))
            hidden = cache.extend(decoder, token)
            assert decoder.config._attn_implementation == "flash_attention_2"
        finally:
            decoder.config._attn_implementation = before
    assert int(model.llm.lm_head(hidden)[0, 0].argmax()) == expected[0][1]


def test_a_model_on_the_cpu_keeps_the_plain_loop(model):
    assert type(Decoder(model)._cache) is KeyValueCache
