"""What --quantize costs and saves on a CPU: operators, the tower's features, speed, and quality on pairs and scenes.

    python benchmarks/quantize.py operators                 # one linear layer with each operator, against float32
    python benchmarks/quantize.py operators --torchao DIR   # torchao too, installed with pip install --target DIR
    python benchmarks/quantize.py features                  # cosine of the tower's features, int8 and int4
    python benchmarks/quantize.py speed                     # captions per second of a model of random weights
    python benchmarks/quantize.py quality [MODEL ...]       # captions of real val pairs, with paired differences
    python benchmarks/quantize.py scenes [MODEL]            # held-out drawn scenes, as tiny_quality.py scores them

Times are medians of CPU time, with alternating runs of what is compared; the tables have ratios. Real pairs (--real)
are the val pairs of a non-standard split of 50 LEVIR-CD test scenes.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import nn

import tiny_quality
import trials
from btcchat import BTCChat
from btcchat.eval.captions.predictions import read_predictions
from btcchat.eval.encoders.machine import load_average, machine
from btcchat.eval.encoders.markdown import table
from btcchat.eval.encoders.scores import FLAGS, caption_scores
from btcchat.layers.quantized.cpu import Int4Linear, Int8Linear
from btcchat.multimodal_encoder.siglip import SiglipTower

KINDS = ("int8", "int4")
SIZES = [(192, 512), (768, 3072), (2048, 5504)]  # inputs, outputs: packaged model, SigLIP base, Sheared-LLaMA 2.7B
ROWS = (1, 16, 576)  # a token, a token of 16 answers, a prompt
PLAIN = "as it is"


# -- operators -------------------------------------------------------------------------------------------------------


def operators(options: argparse.Namespace) -> str:
    """One layer: speed-up over float32, and relative error of the output."""
    rows, names = [], []
    with torch.inference_mode():
        for k, n in SIZES[: options.sizes]:
            for count in ROWS:
                torch.manual_seed(0)
                layer, x = nn.Linear(k, n), torch.randn(count, k)
                calls = candidates(layer, x, options.torchao)
                names, seconds, expected = list(calls), alternate(calls, options.repeats), layer(x)
                errors = [(call().float() - expected).norm() / expected.norm() for call in calls.values()]
                cells = [
                    f"{seconds['float32'] / seconds[name]:.2f}x, {error:.4f}"
                    for name, error in zip(names, errors, strict=True)
                ]
                rows.append([f"{k} -> {n}, {count} rows", f"{seconds['float32'] * 1e6:.0f}", *cells[1:]])
    return table(["layer", "float32, microseconds", *names[1:]], rows)


def candidates(layer: nn.Linear, x: torch.Tensor, torchao: Path | None) -> dict[str, Callable[[], torch.Tensor]]:
    half, y = nn.Linear(layer.in_features, layer.out_features).bfloat16(), x.bfloat16()
    half.load_state_dict(layer.state_dict())
    weight, bias = layer.weight.detach(), layer.bias.detach()
    scale = weight.abs().amax(1) / 127
    whole = (weight / scale[:, None]).round().to(torch.int8)
    zeros = torch.zeros(len(scale), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        channels = torch.quantize_per_channel(weight, scale.double(), zeros, 0, torch.qint8)
        dynamic = torch.ops.quantized.linear_prepack(channels, bias)
    eight, four = Int8Linear.of(layer), Int4Linear.of(layer)
    calls = {
        "float32": lambda: layer(x),
        "bfloat16": lambda: half(y),
        "int8: torch dynamic": lambda: torch.ops.quantized.linear_dynamic(x, dynamic, False),
        "int8: oneDNN qlinear, a scale a row (btcchat)": lambda: eight(x),
        "the same, bfloat16 in and out": lambda: eight(y),
        "int8 weights only, bfloat16": lambda: (
            torch.ops.aten._weight_int8pack_mm(y, whole, scale.bfloat16()) + half.bias
        ),
        "int4 weights only, bfloat16 (btcchat)": lambda: four(y),
    }
    if torchao is not None:
        sys.path.insert(0, str(torchao))
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

        theirs = nn.Sequential(nn.Linear(layer.in_features, layer.out_features))
        theirs[0].load_state_dict(layer.state_dict())
        quantize_(theirs, Int8DynamicActivationInt8WeightConfig())
        calls["int8: torchao dynamic"] = lambda: theirs(x)
    return calls


def alternate(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each call; the calls alternate."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # packs weights
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return {name: median(values) for name, values in seconds.items()}


# -- the tower, and whole models -------------------------------------------------------------------------------------


def models(path: str | None) -> dict[str, BTCChat]:
    plain = {PLAIN: BTCChat.from_pretrained(path, device="cpu")}
    return plain | {kind: BTCChat.from_pretrained(path, device="cpu", quantize=kind) for kind in KINDS}


def features(options: argparse.Namespace) -> str:
    """Cosine of each token's features with those of the plain tower, on real images."""
    from btcchat.checkpoint.quantize import _replace_on_cpu

    plain = BTCChat.from_pretrained(options.models[0] if options.models else None, device="cpu")
    if not isinstance(plain.vision_tower, SiglipTower):
        sys.exit("quantize.py: error: the tower is not a SigLIP tower, so it is not quantised")
    files = sorted((options.real / "images" / "val" / "A").iterdir())[: options.images]
    frames = _frames(plain, files)
    rows = []
    with torch.inference_mode():
        expected = torch.stack(plain.see(frames))
        for kind in KINDS:
            model = BTCChat.from_pretrained(options.models[0] if options.models else None, device="cpu")
            _replace_on_cpu(kind, ["vision_tower"], model.llm, model.vision_tower, loaded=True)
            cosine = torch.cosine_similarity(torch.stack(model.see(frames)), expected, dim=-1).flatten()
            rows.append([kind, f"{cosine.mean():.5f}", f"{cosine.quantile(0.01):.5f}", f"{cosine.min():.5f}"])
    return table([f"tower, {len(files)} images", "mean cosine", "1 % of tokens below", "smallest"], rows)


def _frames(model: BTCChat, files: list[Path]) -> torch.Tensor:
    from btcchat import request

    records = [request("?", "image", str(file)) for file in files]
    frames: torch.Tensor = model.processor.collate([model.processor(r, train=False) for r in records])["frames"]
    return frames


def quality(options: argparse.Namespace) -> str:
    """CIDEr-D, and changed or unchanged, on real val pairs by `btcchat eval`, with paired differences to float32."""
    blocks = []
    for path in options.models or [None]:
        with tempfile.TemporaryDirectory() as folder:
            sets = describe_real(Path(folder) / "sets", options.real)
            answers = {}
            for kind in (PLAIN, *KINDS):
                out = Path(folder) / kind.replace(" ", "-")
                flags = [] if kind == PLAIN else ["--quantize", kind]
                trials.evaluate(path, f"real:val{options.val}", out, sets, *flags, "--device", "cpu")
                answers[kind] = [read_predictions(out / "predictions.jsonl").rows]
            blocks.append(f"{path or 'the packaged model'}:\n\n" + differences(answers))
    return "\n\n".join(blocks)


def describe_real(sets: Path, real: Path) -> Path:
    sets.mkdir()
    trials.btcchat("data", "convert", "levir_cc", real, sets / "annotations")
    where = f"{{annotation: 'annotations/{{split}}.jsonl', images: '{real.resolve()}', splits: [train, val]}}"
    (sets / "sets.yaml").write_text(f"real: {where}\n", encoding="utf-8")
    return sets


def differences(answers: dict) -> str:
    scores, measures = caption_scores(answers), ["CIDEr-D", "changed CIDEr-D", FLAGS]
    plain, (truth,) = scores[PLAIN], answers[PLAIN]
    rows = []
    for kind, (own,) in answers.items():
        same = sum(a.prediction == b.prediction for a, b in zip(own, truth, strict=True))
        cells = [f"{scores[kind][measure]}" for measure in measures]
        gaps = ["" if kind == PLAIN else gap(scores[kind][measure].minus(plain[measure])) for measure in measures]
        pairs = [cell for both in zip(cells, gaps, strict=True) for cell in both]
        rows.append([kind, *pairs, f"{same} of {len(truth)}"])
    heads = [head for measure in measures for head in (measure, "difference")]
    return table(["weights", *heads, "same captions"], rows)


def gap(found: dict) -> str:
    low, high = found["95 %"]
    p = "no p" if found["p"] is None else f"p {found['p']:.3f}"
    return f"{found['difference']:+.1f} ({low:+.1f} to {high:+.1f}, {p})"


def scenes(options: argparse.Namespace) -> str:
    """Scores of `tiny_quality.py` for the model and its two quantised exports."""
    path = options.models[0] if options.models else "tiny"
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            trials.btcchat("export", "--quantize", kind, path, Path(folder, kind))
        named = [f"{PLAIN}={'' if path == 'tiny' else path}", *(f"{kind}={Path(folder, kind)}" for kind in KINDS)]
        arguments = [*named, "--samples", str(options.samples), "--device", "cpu"]
        tiny_quality.main(arguments)
    return f"{options.samples} held-out samples of each task."


def speed(options: argparse.Namespace) -> str:
    """Captions per second of a model of random weights, by kind of weights and dtype."""
    import numpy as np

    from btcchat import request
    from btcchat.generation import GenerationOptions
    from btcchat.synthetic.start import Sizes, init_model, train_tokenizer

    width, layers = options.width, options.layers
    sizes = Sizes(
        resolution=224, patch=14, vision_width=width, vision_layers=layers, vision_heads=width // 64, llm_width=width,
        llm_layers=layers, llm_heads=width // 64, llm_hidden=width * 8 // 3 // 32 * 32, vocabulary=400, context=1024,
    )  # fmt: skip
    random = np.random.default_rng(0)
    pair = [random.integers(0, 256, (224, 224, 3), dtype=np.uint8) for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        corpus = ["a house is built .", "USER: ASSISTANT:", "the scene is the same as before ."] * 50
        tokenizer = train_tokenizer(corpus, 300, Path(folder, "tokenizer"))
        init_model(tokenizer, sizes).save_pretrained(Path(folder, "model"))
        loaded = {}
        for dtype in ("float32", "bfloat16"):
            for kind in (None, *KINDS):
                name = dtype if kind is None else f"{dtype}, {kind}"
                loaded[name] = BTCChat.from_pretrained(Path(folder, "model"), device="cpu", dtype=dtype, quantize=kind)
        records = [request("What changed?", "pair", pair)] * options.batch
        writing = GenerationOptions(options.new_tokens)
        calls = {name: lambda model=model: model.answer(records, writing) for name, model in loaded.items()}
        seconds = alternate(calls, options.repeats)
    rows = [[name, f"{options.batch / s:.2f}", f"{seconds['float32'] / s:.2f}x"] for name, s in seconds.items()]
    return table([f"random weights, {width} x {layers}", "captions a second", "against float32"], rows)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add, number = parser.add_argument, {"type": int, "metavar": "N"}
    parts = {f.__name__: f for f in (operators, features, speed, quality, scenes)}
    add("part", choices=parts)
    add("models", nargs="*", help="checkpoints (default: the packaged model)")
    add("--torchao", type=Path, metavar="DIR", help="folder where torchao is installed, to include it")
    add("--real", type=Path, default=trials.REAL, metavar="DIR", help="LEVIR-CC or a part of it")
    add("--val", default="", metavar="@first:N", help="use only a part of the val pairs (default all)")
    add("--sizes", **number, default=len(SIZES), help="layer sizes in `operators` (default all)")
    add("--repeats", **number, default=15, help="runs of each, of which the median counts (default 15)")
    add("--images", **number, default=32, help="images in `features` (default 32)")
    add("--samples", **number, default=200, help="samples of each task in `scenes` (default 200)")
    add("--width", **number, default=768, help="width of tower and language model in `speed` (default 768)")
    add("--layers", **number, default=12, help="layers of both in `speed` (default 12)")
    add("--batch", **number, default=8, help="pairs at a time in `speed` (default 8)")
    add("--new-tokens", **number, default=16, help="tokens of each caption in `speed` (default 16)")
    options = parser.parse_args(words)
    print(parts[options.part](options))
    load = load_average()
    print(f"\n{machine(torch.device('cpu'))}, torch {torch.__version__}, load {'?' if load is None else f'{load:.1f}'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
