"""A small random model and a few drawn scenes, for trying out a training preset (``--smoke``)."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from btcchat.checkpoint.config import read_layers
from btcchat.errors import BTCChatError
from btcchat.files import read_rows
from btcchat.prompt import special_tokens
from btcchat.synthetic.start import Sizes, init_model, train_qwen2_tokenizer, train_tokenizer
from btcchat.synthetic.write import SampleCounts, write_dataset
from btcchat.train.encoder_flags import encoder_name, encoder_options

SIZES = Sizes(
    resolution=32,
    patch=8,
    vision_width=16,
    vision_layers=3,
    vision_heads=2,
    llm_width=32,
    llm_layers=2,
    llm_heads=2,
    llm_hidden=48,
    vocabulary=600,
    context=2048,
)
MARK = "made_by_smoke.txt"


def smoke_inputs(folder: Path, flags: dict[str, Any]) -> dict[str, Any]:
    """Empty ``folder``, write a model and data to it that fit the preset's ``flags``, and return the flags to use them.

    The model has the change encoder that the preset expects, or none if the preset starts a fresh one or says
    ``chg: false``. Raises BTCChatError if the parent folder has content and was not made this way.
    """
    out = folder.parent
    if out.is_dir() and any(out.iterdir()) and not (folder / MARK).is_file():
        raise BTCChatError(f"--smoke overwrites its --output_dir, and {out} holds files of yours; give another folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).write_text("A random model and drawn scenes, made by --smoke. This folder is replaced unasked.\n")
    write_dataset(folder / "data" / "synthetic", SampleCounts(pairs=4, images=4, series=2, videos=2), seed=0, workers=1)
    texts = _texts(folder / "data")
    found: dict[str, Any] = {}
    special = special_tokens(str(flags.get("version") or "v1"))
    tokenizer: PreTrainedTokenizerBase
    if special:  # those of a chat template; any family will do for a trial
        llm, tokenizer = "qwen2", train_qwen2_tokenizer(texts, SIZES.vocabulary, special)
    else:
        llm, tokenizer = "llama", train_tokenizer(texts, SIZES.vocabulary, folder / "tokenizer")
    encoder: dict[str, Any] | None = None
    starts = flags.get("from_origin") or flags.get("fresh_change_encoder")
    if not starts and flags.get("chg") is not False:
        encoder = {"change_encoder_type": encoder_name(flags) or "attentive", **encoder_options(flags)}
    if flags.get("eval_mixture"):
        found["eval_mixture"] = "synthetic_pair"
    layer = read_layers(flags.get("mm_vision_select_layer", -1))
    if isinstance(layer, list):  # as many depths, of a tower with fewer
        layer = list(range(-len(layer), 0))
        found["mm_vision_select_layer"] = str(layer)
        layer = layer if encoder else -1  # a fresh change encoder's depths are set with it
    model = init_model(
        tokenizer,
        SIZES,
        llm=llm,
        change_encoder=encoder,
        mm_vision_select_layer=layer,
        mm_projector={"mm_projector_type": flags.get("mm_projector") or "mlp_downsample"},
    )
    model.save_pretrained(folder / "model")
    return found | {"model_name_or_path": str(folder / "model"), "data_root": str(folder / "data")}


def _texts(folder: Path) -> Iterator[str]:
    for file in sorted(folder.rglob("*.jsonl")):
        for _, record in read_rows(file):
            yield from (turn["value"] for turn in record["conversations"])
