"""The SentencePiece tokenizer that was published with LLaMA, with the same ids on every version of transformers.

transformers 5 has only its fast form, which splits texts differently. tests/language_model/test_llama_tokenizer.py
records the expected ids. Two forms were published:

- ``legacy``: each stretch of text between special tokens gets a space at its start, SentencePiece's dummy prefix.
- otherwise only the whole text gets one, unless it begins with a special token.
"""

from pathlib import Path
from typing import Any

import sentencepiece
from transformers import PreTrainedTokenizer

from btcchat.errors import BTCChatError

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how SentencePiece writes a space inside a piece
# normalizer_spec { add_dummy_prefix: false } in protobuf's wire format, where a message that follows another of the
# same field is merged into it. Python's protobuf allows one description of this format, and transformers has its own.
NO_PREFIX = b"\x1a\x02\x18\x00"


class LlamaTokenizer(PreTrainedTokenizer):
    """Reads ``vocab_file``; raises BTCChatError if it is not a SentencePiece model.

    legacy: the older of the two forms, which is the default if tokenizer_config.json does not say.
    """

    vocab_files_names = {"vocab_file": "tokenizer.model"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self,
        vocab_file: str,
        *,
        legacy: bool | None = None,
        add_bos_token: bool = True,
        add_eos_token: bool = False,
        **options: Any,
    ):
        self.vocab_file, self.legacy = vocab_file, legacy is None or legacy
        self.add_bos_token, self.add_eos_token = add_bos_token, add_eos_token
        self._load(Path(vocab_file).read_bytes())
        names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "clean_up_tokenization_spaces": False}
        kept = {"legacy": self.legacy, "add_bos_token": add_bos_token, "add_eos_token": add_eos_token}
        super().__init__(**{**names, **options, **kept})
        # SentencePiece may drop a space at the beginning of its input; it keeps one after these pieces.
        self._before = str(self.unk_token)
        self._before_pieces = len(self._pieces.encode(self._before))

    def _load(self, model: bytes) -> None:
        """Load the SentencePiece model, which adds a space only in the legacy form."""
        self._model = model
        try:
            if not model:
                raise RuntimeError("it is empty")
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model + (b"" if self.legacy else NO_PREFIX))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise BTCChatError(
                f"{self.vocab_file} is not a SentencePiece model ({reason}); download or save it again"
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_pieces"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._load(self._model)

    # -- from text to ids ----------------------------------------------------------------------------------------------

    def tokenize(self, text: str, **options: Any) -> list[str]:
        if self.legacy or not text:
            return list(super().tokenize(text, **options))
        tokens = list(super().tokenize(SPACE + text.replace(SPACE, " "), **options))
        special = len(tokens) > 1 and tokens[0] == SPACE and tokens[1] in self.all_special_tokens
        return tokens[special:]

    def _tokenize(self, text: str, **options: Any) -> list[str]:
        """The pieces of a stretch of text without special tokens."""
        if self.legacy or not text.startswith((SPACE, " ")):
            return list(self._pieces.encode(text, out_type=str))
        return list(self._pieces.encode(self._before + text, out_type=str))[self._before_pieces :]

    def _convert_token_to_id(self, token: str) -> int:
        return int(self._pieces.piece_to_id(token))

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        first = [self.bos_token_id] if self.add_bos_token else []
        last = [self.eos_token_id] if self.add_eos_token else []
        texts = [token_ids_0] if token_ids_1 is None else [token_ids_0, token_ids_1]
        return [token for ids in texts for token in (*first, *ids, *last)]

    # -- from ids to text ----------------------------------------------------------------------------------------------

    def _convert_id_to_token(self, index: int) -> str:
        return str(self._pieces.id_to_piece(index))

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of tokens, without the space at the start of every text or, in the legacy form, every stretch."""
        whole, text, stretch = {*self.all_special_tokens, *self.get_added_vocab()}, "", list[str]()
        for number, token in enumerate(tokens):
            if token not in whole:
                stretch.append(token.removeprefix(SPACE) if number == 0 else token)
                continue
            if self.legacy and number > 0 and tokens[number - 1] not in whole:
                text += " "
            text += self._pieces.decode(stretch) + token
            stretch = []
        return text + str(self._pieces.decode(stretch))

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **options: Any,
    ) -> str:
        """Decode as transformers 5 does; 4 would put spaces around added tokens."""
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        text = self.convert_tokens_to_string(self.convert_ids_to_tokens(ids, skip_special_tokens=skip_special_tokens))
        cleans = (
            self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces
        )
        return str(self.clean_up_tokenization(text)) if cleans else text

    # -- the vocabulary ------------------------------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        return int(self._pieces.get_piece_size())

    def get_vocab(self) -> dict[str, int]:
        pieces = {str(self._pieces.id_to_piece(i)): i for i in range(self.vocab_size)}
        return {**pieces, **self.added_tokens_encoder}

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write tokenizer.model unchanged."""
        file = Path(save_directory) / "-".join(filter(None, (filename_prefix, "tokenizer.model")))
        file.write_bytes(self._model)
        return (str(file),)
