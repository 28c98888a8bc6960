"""Recent language models: folders in their published layout, with a few thousand random weights."""

import json
from types import SimpleNamespace

import pytest
import torch
import transformers

from btcchat import BTCChat, Record, request
from btcchat.compat import families, merges
from btcchat.errors import BTCChatError
from btcchat.generation import GenerationOptions, generate_ids
from btcchat.language_model import build_language_model
from btcchat.language_model.tokenizer import load_tokenizer
from tests.backbones import AVAILABLE, FAMILIES, ROWS, write_language_model, write_siglip2, write_tokenizer
from tests.test_model import picture

IDS = torch.arange(200)[None]  # more than the 64 positions in LLaMA 3's rope_scaling
SHORT = GenerationOptions(max_new_tokens=12)
REFERENCE = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}


@pytest.fixture(scope="module", params=AVAILABLE)
def parts(request, tmp_path_factory):
    """(family, language model folder, tower folder)"""
    folder = tmp_path_factory.mktemp("parts")
    return request.param, write_language_model(folder / "llm", request.param), write_siglip2(folder / "siglip2")


def join(parts) -> BTCChat:
    name, llm, tower = parts
    torch.manual_seed(2)
    return BTCChat.from_parts(
        vision_tower=tower, llm=llm, mm_vision_select_layer=-1, conv_version=FAMILIES[name].template, device="cpu"
    )


def requests() -> list[Record]:
    a, b = picture(0), picture(1)
    return [
        request("What changed?", "pair", [a, b]),
        request("What changed between the two images of this scene?", "pair", [b, a]),
        request("Is there a house?", "image", a),
        request("Hello"),
    ]


@pytest.fixture
def reference(parts):
    """The language model, loaded by transformers itself."""
    name, llm, _ = parts
    model_class = getattr(transformers, REFERENCE[FAMILIES[name].config["model_type"]], None)
    if model_class is None:
        pytest.skip("this transformers has no class of the family")
    return model_class.from_pretrained(llm).eval()


@torch.no_grad()
def test_logits_equal_those_of_transformers_own_class(parts, reference):
    assert torch.equal(join(parts).llm(IDS).logits, reference(IDS).logits)


@torch.no_grad()
def test_a_folder_saved_by_the_installed_transformers_gives_the_same_logits(parts, reference, tmp_path):
    """transformers 5 writes rope_parameters and dtype."""
    name, _, tower = parts
    reference.save_pretrained(tmp_path)
    write_tokenizer(tmp_path, name)
    assert torch.equal(join((name, tmp_path, tower)).llm(IDS).logits, reference(IDS).logits)


@torch.no_grad()
def test_a_joined_model_gives_equal_logits_after_saving_and_loading(parts, tmp_path):
    model = join(parts)
    model.save_pretrained(tmp_path / "m")
    again = BTCChat.from_pretrained(tmp_path / "m", device="cpu")
    assert torch.equal(again.llm(IDS).logits, model.llm(IDS).logits)
    stored = json.loads((tmp_path / "m/llm/config.json").read_text())
    own = FAMILIES[parts[0]].config
    assert stored["rope_theta"] == own["rope_theta"] and (stored.get("rope_scaling") or None) == own.get("rope_scaling")
    assert (stored["model_type"], stored["vocab_size"]) == (own["model_type"], ROWS)
    assert again.answer(requests(), SHORT) == model.answer(requests(), SHORT)


@torch.no_grad()
def test_the_cache_gives_the_tokens_of_full_passes(parts):
    model = join(parts)
    batch = model.processor.collate([model.processor(requests()[0], train=False)])
    [ids] = generate_ids(model, batch, SHORT)
    embeds, whole = model.embed(**{name: batch[name] for name in batch if name != "labels"}).inputs_embeds, []
    for _ in ids:
        whole.append(int(model.llm(inputs_embeds=embeds, use_cache=False).logits[0, -1].argmax()))
        embeds = torch.cat([embeds, model.llm.get_input_embeddings()(torch.tensor([[whole[-1]]]))], dim=1)
    assert ids == whole


def test_a_batch_gets_the_same_answers_as_one_by_one(parts):
    model = join(parts)
    batched = model.answer(requests(), SHORT)
    assert batched == [model.answer([one], SHORT)[0] for one in requests()]
    assert len(set(batched)) == len(batched)  # the random models do depend on their images


def test_it_learns_to_write_an_answer_and_to_end_it(parts):
    model, source = join(parts), [picture(0), picture(1)]
    conversation = [{"from": "human", "value": "What changed?"}, {"from": "gpt", "value": "two houses are built ."}]
    record = Record(where="a test", modality="pair", sources=source, conversations=conversation)
    batch = model.processor.collate([model.processor(record, train=True)])
    model.train()
    optimizer = torch.optim.AdamW(model.llm.parameters(), lr=2e-2)
    for _ in range(30):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.eval()
    asked = request("What changed?", "pair", source)
    assert model.answer([asked]) == ["two houses are built ."]
    [ids] = generate_ids(model, model.processor.collate([model.processor(asked, train=False)]))
    assert ids == [label for label in batch["labels"][0].tolist() if label >= 0]
    if FAMILIES[parts[0]].config.get("tie_word_embeddings"):
        assert model.llm.lm_head.weight is model.llm.model.embed_tokens.weight


def test_ids_without_a_token_decode_to_nothing(parts):
    model = join(parts)
    assert len(model.tokenizer) < ROWS
    text = model.tokenizer("a house", add_special_tokens=False).input_ids
    assert model.tokenizer.decode([*text, ROWS - 1]) == "a house"
    embeddings = model.llm.get_output_embeddings()
    with torch.no_grad():  # make one of them the most likely token
        embeddings.weight = torch.nn.Parameter(torch.zeros_like(embeddings.weight))
        embeddings.weight[ROWS - 1] = model.llm.model(IDS)[0][0, -1]
    assert isinstance(model.ask("What?", max_new_tokens=4), str)


# -- unsupported in some releases -------------------------------------------------------------------------------------


def test_a_family_that_needs_a_newer_transformers_is_an_error_of_one_line(monkeypatch):
    monkeypatch.setitem(families.NEWER, "qwen9", ("9.1", "Qwen9Config", "Qwen9ForCausalLM"))
    message = rf"language model 'qwen9' needs transformers 9.1 or newer, but {transformers.__version__} is installed; "
    with pytest.raises(BTCChatError, match=message + "install a newer one: pip install"):
        build_language_model({"model_type": "qwen9"})


@pytest.mark.skipif("qwen3" in AVAILABLE, reason="this transformers has Qwen3")
def test_qwen3_on_the_pinned_transformers_names_the_release_that_has_it(tmp_path):
    with pytest.raises(BTCChatError, match="language model 'qwen3' needs transformers 4.51 or newer, but 4.36.2 is"):
        write_language_model(tmp_path / "llm", "qwen3")


def test_a_tokenizer_whose_merges_an_old_library_would_read_differently_is_refused(monkeypatch, tmp_path):
    write_tokenizer(tmp_path, "llama3")
    monkeypatch.setattr(merges, "models", SimpleNamespace(BPE=object))  # as tokenizers before 0.19
    with pytest.raises(BTCChatError, match=r"ignore_merges \(LLaMA 3\) needs tokenizers 0.19 or newer"):
        load_tokenizer(tmp_path)


@pytest.mark.skipif("llama3.2" in AVAILABLE, reason="this transformers has LLaMA 3's rope_scaling")
def test_the_rope_of_llama_3_on_the_pinned_transformers_is_refused():
    config = FAMILIES["llama3.2"].config
    with pytest.raises(BTCChatError, match="rope_scaling is .*'llama3'.*; use another language model, or a newer"):
        build_language_model(config)


def test_sliding_windows_are_refused_in_every_family():
    for family in ("llama", "qwen2"):
        with pytest.raises(BTCChatError, match="use_sliding_window is true; only full attention is supported"):
            build_language_model({"model_type": family, "use_sliding_window": True})
