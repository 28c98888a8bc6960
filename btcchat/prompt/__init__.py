"""Prompts: from the conversation of a record to token ids and labels.

turns.py decides what each turn contains, templates.py how turns are written, tokenise.py turns that into token ids.
"""

from btcchat.prompt.independent import Branched, join
from btcchat.prompt.templates import (
    TEMPLATES,
    Template,
    Turn,
    assistant_turn,
    encode,
    end_ids,
    get_template,
    render,
    special_tokens,
)
from btcchat.prompt.tokenise import (
    END,
    IGNORE_INDEX,
    IMAGE,
    IMAGE_TOKEN_INDEX,
    Encoded,
    Mark,
    describe_length,
    fit,
)
from btcchat.prompt.turns import CAPTION_QUESTION, Hints, Wording, check_pair_prompt, turns_from_record

__all__ = [
    "CAPTION_QUESTION",
    "END",
    "IGNORE_INDEX",
    "IMAGE",
    "IMAGE_TOKEN_INDEX",
    "TEMPLATES",
    "Branched",
    "Encoded",
    "Hints",
    "Mark",
    "Template",
    "Turn",
    "Wording",
    "assistant_turn",
    "check_pair_prompt",
    "describe_length",
    "encode",
    "end_ids",
    "fit",
    "get_template",
    "join",
    "render",
    "special_tokens",
    "turns_from_record",
]
