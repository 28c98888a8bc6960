"""--quantize: at loading, on export, and where it is refused."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from btcchat import BTCChat, BTCChatError
from btcchat.checkpoint import quantize
from btcchat.checkpoint.relayout import export_llava_next
from btcchat.cli import main
from btcchat.commands.caption import EXAMPLE
from btcchat.commands.options import Parser, add_device, model_options
from btcchat.language_model.linear import linear_layers
from btcchat.layers.quantized import cpu, cuda
from btcchat.layers.quantized.cpu import QuantizedLinear
from btcchat.train.start import DataArguments, ModelArguments, load_model
from tests.tiny import tiny_model

KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(not cpu.works(kind), reason="this CPU has no such product"))
    for kind in ("int8", "int4")
]
PAIR = [EXAMPLE / "before.png", EXAMPLE / "after.png"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("quantize")
    tiny_model(path).save_pretrained(path / "model")
    return path / "model"


def load(path, **options):
    return BTCChat.from_pretrained(path, device="cpu", **options)


def quantised(module) -> int:
    return sum(isinstance(layer, QuantizedLinear) for layer in module.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_of_the_language_model_are_quantised_and_its_head_is_not(folder, kind):
    model = load(folder, quantize=kind)
    assert quantised(model.llm) == quantised(model.llm.get_decoder()) == {"int8": 14, "int4": 12}[kind]  # of 2 layers
    assert quantised(model.vision_tower) == (12 if kind == "int8" else 0)
    assert not quantised(model.change_encoder) and not quantised(model.mm_projector)


@pytest.mark.skipif(not cpu.works("int4"), reason="this CPU has no such product")
def test_int4_of_a_model_trained_from_weights_of_4_bits_gives_a_warning(folder, tmp_path, caplog):
    """As rounding returns to these weights; with int8 and with weights of another origin nothing is said."""
    model = load(folder)
    for layer in linear_layers(model.llm).values():
        if cpu.Int4Linear.fits(layer):
            groups = layer.weight.data.unflatten(1, (-1, cpu.GROUP))
            step = groups.abs().amax(2, keepdim=True) / 8
            levels = (groups / step).round().clamp(-8, 7)
            levels[..., 0], levels[..., 1] = -8, 7
            learned = 0.01 * step * torch.randn(groups.shape, generator=torch.Generator().manual_seed(0))
            layer.weight.data = (levels * step + learned).flatten(1)
    model.save_pretrained(tmp_path / "from 4 bits")
    load(folder, quantize="int4")
    load(tmp_path / "from 4 bits", quantize="int8")
    assert "4 bits" not in caplog.text
    load(tmp_path / "from 4 bits", quantize="int4")
    assert "int4 rounds back to them: what it has learned since is lost; use --quantize int8" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_answers_like_the_model_quantised_at_loading(folder, tmp_path, kind, capsys):
    out = tmp_path / "out"
    assert main(["export", "--quantize", kind, str(folder), str(out)]) == 0
    parts = "language model and vision tower" if kind == "int8" else "language model"
    assert capsys.readouterr().out == f"{out}: {folder} with the {parts} in {kind}\n"
    config = json.loads((out / "config.json").read_text())
    assert config["quantization"]["kind"] == kind and config["published_layout"] is False
    stored, model = load(out), load(folder, quantize=kind)
    assert quantised(stored) == quantised(model) > 0
    first, second = stored.state_dict(), model.state_dict()
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    answers = [one.caption(*PAIR, max_new_tokens=8) for one in (stored, model)]
    assert answers[0] == answers[1]
    stored.save_pretrained(tmp_path / "again")  # after an answer, which packs the weights
    again = load(tmp_path / "again", quantize=kind).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_cast_to_bfloat16_keeps_its_scales(folder, tmp_path, kind):
    load(folder, quantize=kind).save_pretrained(tmp_path / "out", dtype=torch.bfloat16)
    whole, half = load(folder, quantize=kind).state_dict(), load(tmp_path / "out", dtype="bfloat16").state_dict()
    scales = [key for key in whole if key.endswith("weight_scale")]
    assert scales and all(torch.equal(whole[key], half[key]) for key in scales)
    assert half["llm.lm_head.weight"].dtype == torch.bfloat16


def test_plain_weights_under_a_quantised_config_are_refused(folder, tmp_path):
    load(folder).save_pretrained(tmp_path / "out")
    file = tmp_path / "out" / "config.json"
    config = json.loads(file.read_text()) | {"quantization": {"kind": "int8", "parts": ["llm"]}}
    file.write_text(json.dumps(config))
    with pytest.raises(BTCChatError, match=r"weight_scale' is missing|config.json says that it is quantised"):
        load(tmp_path / "out")
    file.write_text(json.dumps(config | {"quantization": {"kind": "int3", "parts": ["llm"]}}))
    with pytest.raises(BTCChatError, match="quantization"):
        load(tmp_path / "out")


def test_a_quantised_folder_cannot_be_trained_exported_to_another_layout_or_quantised_again(folder, tmp_path, capsys):
    out = tmp_path / "out"
    load(folder, quantize="int8").save_pretrained(out)
    with pytest.raises(BTCChatError, match="has int8 weights, which cannot be trained"):
        load_model(ModelArguments(str(out)), DataArguments("any"), None)
    with pytest.raises(BTCChatError, match="has quantised weights, which that code cannot read"):
        export_llava_next(out, tmp_path / "next")
    with pytest.raises(BTCChatError, match="is already int8, but --quantize is int4"):
        load(out, quantize="int4")
    assert load(out, quantize="int8").config.quantization["kind"] == "int8"
    assert main(["export", "--quantize", "int4", str(out), str(tmp_path / "twice")]) == 2
    assert "is already int8; give the checkpoint it was made from" in capsys.readouterr().err
    with pytest.raises(BTCChatError, match="has int8 weights, which run only on a CPU; use --device cpu"):
        quantize.check_stored({"kind": "int8", "parts": ["llm"]}, None, "cuda", out)


def test_a_kind_that_cannot_run_is_refused_before_anything_is_loaded(folder, monkeypatch, tmp_path):
    with pytest.raises(BTCChatError, match="quantize"):
        load(folder, quantize="int3")
    with pytest.raises(BTCChatError, match="--quantize int8 runs on a CPU or a CUDA GPU, not on meta"):
        BTCChat.from_pretrained(tmp_path / "none", device="meta", quantize="int8")
    monkeypatch.setattr(cpu, "works", lambda kind: False)
    with pytest.raises(BTCChatError, match=r"--quantize int4: PyTorch .* has no int4 matrix product for this CPU"):
        load(tmp_path / "none", quantize="int4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(BTCChatError, match="--quantize int8 needs the package bitsandbytes"):
        quantize.check_available("int8", "cuda:0")


def test_a_kind_without_its_operator_does_not_work(monkeypatch):
    def fail(*_):
        raise RuntimeError("could not create a primitive descriptor")

    monkeypatch.setattr(cpu.Int8Linear, "pack", fail)
    assert not cpu.works("int8")


class FakeLinear(torch.nn.Linear):
    """A layer of bitsandbytes that keeps what it was made with."""

    def __init__(self, input_features, output_features, bias, device, **options):
        super().__init__(input_features, output_features, bias, device)
        self.options = options


class Linear8bitLt(FakeLinear):
    pass


def fake_bitsandbytes() -> SimpleNamespace:
    def weight(data, requires_grad, **options):
        return torch.nn.Parameter(data, requires_grad)

    layers = {"Linear4bit": FakeLinear, "Params4bit": weight, "Linear8bitLt": Linear8bitLt, "Int8Params": weight}
    return SimpleNamespace(nn=SimpleNamespace(**layers))


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_on_a_gpu_bitsandbytes_quantises_the_language_model_on_its_way_there(folder, monkeypatch, tmp_path, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "bitsandbytes", fake_bitsandbytes())
    moves = []
    monkeypatch.setattr(BTCChat, "to", lambda self, device=None, dtype=None: moves.append((device, self.device.type)))
    model = BTCChat.from_pretrained(folder, device="cuda", quantize=kind, attn_implementation="sdpa")
    assert moves == [("cpu", "cpu"), ("cuda", "cpu")], "the plain weights were never on the GPU"
    layers = [layer for layer in model.llm.modules() if isinstance(layer, FakeLinear)]
    options = {"int8": {"has_fp16_weights": False, "threshold": 6.0}}.get(
        kind, {"compute_dtype": torch.float32, "quant_type": "nf4"}
    )
    assert len(layers) == 14 and all(layer.options == options for layer in layers)
    assert all(layer.weight.device.type == "cpu" for layer in layers), "no weight is left without its values"
    plain = load(folder).llm.get_decoder().layers[0].mlp.up_proj.weight
    assert torch.equal(model.llm.get_decoder().layers[0].mlp.up_proj.weight, plain)
    assert cuda.waits(model.llm) == (kind == "int8")
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    with pytest.raises(BTCChatError, match="a model quantised on a GPU cannot be saved"):
        model.save_pretrained(tmp_path / "out")


def test_the_flag_reaches_the_model():
    parser = Parser()
    add_device(parser)
    parser.set_defaults(bands=None, stretch="shared", nodata=None)
    assert model_options(parser.parse_args(["--quantize", "int4"]))["quantize"] == "int4"
    assert "quantize" not in model_options(parser.parse_args([]))
