"""The keys of llm/config.json and tokenizer_config.json, which transformers 5 changed.

We save those of 4.36, which the published code and every version can read.
"""

from collections.abc import Mapping
from typing import Any

# Fields of the base class's to_dict() in transformers 4.36.2, which published part configs repeat. 5.24 has 12 of them.
BASE_FIELDS = (
    "_name_or_path", "add_cross_attention", "architectures", "bad_words_ids", "begin_suppress_tokens",
    "bos_token_id", "chunk_size_feed_forward", "cross_attention_hidden_size", "decoder_start_token_id",
    "diversity_penalty", "do_sample", "dtype", "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "id2label",
    "is_decoder", "is_encoder_decoder", "label2id", "length_penalty", "max_length", "min_length", "model_type",
    "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "output_attentions",
    "output_hidden_states", "output_scores", "pad_token_id", "prefix", "problem_type", "pruned_heads",
    "remove_invalid_values", "repetition_penalty", "return_dict", "return_dict_in_generate", "sep_token_id",
    "suppress_tokens", "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder",
    "tie_word_embeddings", "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript",
    "transformers_version", "typical_p", "use_bfloat16",
)  # fmt: skip


def setting_faults() -> tuple[type[Exception], ...]:
    """The errors of transformers' config classes for invalid settings. From version 5 they check each field."""
    faults = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError)
    try:
        from huggingface_hub.errors import StrictDataclassError
    except ImportError:  # huggingface_hub before 0.30, used by a transformers that checks nothing
        return faults
    return (*faults, StrictDataclassError)


def rope_kinds() -> frozenset[str]:
    """The kinds of rotary embeddings that the installed transformers computes; versions before 4.43 have no list."""
    try:
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    except ImportError:
        return frozenset(("default", "linear", "dynamic"))
    return frozenset(("default", *ROPE_INIT_FUNCTIONS))


def published_rope(config: dict[str, Any]) -> dict[str, Any]:
    """A language model's config with the ``rope_theta`` and ``rope_scaling`` that transformers 4.36 reads.

    4 ignores the rope_parameters of 5, and would compute with a rope_theta of 10000. 4.36 knows two kinds of
    rope_scaling, reads them only from ``type``, and rejects the ``rope_type`` that 4.43 to 4.57 add.
    """
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    config = {name: value for name, value in config.items() if name != "rope_parameters"}
    if not rope:
        return config
    kind = rope_kind(rope)
    rope = {name: value for name, value in rope.items() if name not in ("type", "rope_type")}
    if "rope_theta" in rope:
        config["rope_theta"] = rope.pop("rope_theta")
    field = "type" if kind in ("linear", "dynamic") else "rope_type"
    return config | {"rope_scaling": None if kind == "default" else {field: kind, **rope}}


def rope_kind(rope: Mapping[str, Any]) -> str:
    """The kind that rope_parameters or rope_scaling names."""
    return str(rope.get("rope_type", rope.get("type", "default")))


def published_tokenizer(config: dict[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json without the keys that transformers before 5 does not know."""
    config = {name: value for name, value in config.items() if name not in ("backend", "is_local", "local_files_only")}
    extra = config.pop("extra_special_tokens", None)
    if isinstance(extra, list):
        config["additional_special_tokens"] = extra
    elif extra:  # a dict: named tokens, which versions before 4.46 do not support
        config["extra_special_tokens"] = extra
    classes = {"TokenizersBackend": "PreTrainedTokenizerFast", "Qwen2TokenizerFast": "Qwen2Tokenizer"}
    name = str(config.get("tokenizer_class"))
    return config | {"tokenizer_class": classes.get(name, name)}
