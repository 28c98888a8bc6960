"""Captions by vLLM: btcchat reads the images and the question, vLLM runs the language model.

    python examples/vllm_prompt_embeds.py CHECKPOINT before.png after.png [before.png after.png ...]

btcchat's vision tower, change encoder and projector turn each pair and its question into one row of embeddings, which
vLLM takes in place of token ids ("Prompt Embedding Inputs" in its documentation). CHECKPOINT/llm is a plain folder of
the language model, which vLLM opens by itself. vLLM is installed apart from btcchat: pip install vllm.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from btcchat import BTCChat, BTCChatError, request
from btcchat.decoding.answer_text import Detokenizer
from btcchat.generation import read_prompts
from btcchat.prompt import end_ids


def prompts(model: BTCChat, pairs: Sequence[Sequence[str]]) -> list[dict[str, torch.Tensor]]:
    """One prompt a pair, as vLLM takes it: ``{"prompt_embeds": (N, D)}`` on the CPU, of the model's dtype."""
    records = [request(model.config.caption_question, "pair", list(pair)) for pair in pairs]
    batch = model.processor.collate([model.processor(record, train=False) for record in records])
    return [{"prompt_embeds": row.cpu().contiguous()} for row in read_prompts(model, batch)]


def engine_options(model: BTCChat, checkpoint: Path) -> dict[str, Any]:
    """Arguments of vllm.LLM."""
    llm = checkpoint / "llm"
    if not (llm / "config.json").is_file() or model.base is not None or model.config.quantization is not None:
        raise BTCChatError(
            f"{checkpoint} has no language model that vLLM reads; save a plain checkpoint (an adapter: btcchat export "
            "--merge; a quantised one: what it was made of)"
        )
    return {
        "model": str(llm),
        "enable_prompt_embeds": True,
        "skip_tokenizer_init": True,  # ids come back, and btcchat's tokenizer turns them into text
        "dtype": str(next(model.llm.parameters()).dtype).removeprefix("torch."),
        "max_model_len": model.config.model_max_length,
    }


def captions(model: BTCChat, checkpoint: Path, pairs: Sequence[Sequence[str]], max_tokens: int = 128) -> list[str]:
    """A caption of each pair (before, after)."""
    from vllm import LLM, SamplingParams

    engine = LLM(**engine_options(model, checkpoint))
    ends = end_ids(model.tokenizer, model.config.conv_version)
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens, stop_token_ids=list(ends), detokenize=False)
    text = Detokenizer(model.tokenizer)
    return [text(answer.outputs[0].token_ids).strip() for answer in engine.generate(prompts(model, pairs), sampling)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="checkpoint folder")
    parser.add_argument("images", nargs="+", metavar="BEFORE AFTER", help="pairs of images")
    args = parser.parse_args()
    if len(args.images) % 2:
        parser.error("each pair needs two images, before and after")
    # On the CPU, so that vLLM has the whole GPU; with two GPUs, device="cuda:1".
    model = BTCChat.from_pretrained(args.checkpoint, device="cpu")
    pairs = list(zip(args.images[::2], args.images[1::2], strict=True))
    print(*captions(model, args.checkpoint, pairs), sep="\n")


if __name__ == "__main__":
    main()
