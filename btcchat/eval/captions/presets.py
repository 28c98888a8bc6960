"""Text normalisation. It alone changes CIDEr-D by up to 5 points, so each preset has a name that every table gives."""

import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from btcchat.errors import BTCChatError
from btcchat.eval.captions.java import eval_package, running, writing_temporary
from btcchat.registry import Registry

# Control characters and line separators too, since each scorer would treat them differently.
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_HALF_CHARACTERS = re.compile(r"[\ud800-\udfff]")  # JSON may contain half an emoji (a lone surrogate); UTF-8 cannot


def clean(text: str) -> str:
    """One line with words separated by single spaces, which every preset starts from."""
    return _HALF_CHARACTERS.sub("\ufffd", _BLANKS.sub(" ", text).strip())


def levir_cc(texts: Sequence[str], java: str | None = None) -> list[str]:
    return [clean(text.lower().replace(".", "")) for text in texts]


def raw(texts: Sequence[str], java: str | None = None) -> list[str]:
    return [clean(text) for text in texts]


def ptb(texts: Sequence[str], java: str | None = None) -> list[str]:
    """Tokenise with pycocoevalcap's Stanford tokeniser and drop its list of punctuation; one JVM for all texts."""
    library = eval_package("pycocoevalcap.tokenizer.ptbtokenizer")
    jar = Path(eval_package("pycocoevalcap.tokenizer").__path__[0]) / library.STANFORD_CORENLP_3_4_1_JAR
    with ExitStack() as stack:
        with writing_temporary():
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="btcchat-ptb-"))) / "texts"
            path.write_text("".join(f"{clean(text)}\n" for text in texts), encoding="utf-8", newline="\n")
        options = ["-preserveLines", "-lowerCase", "-encoding", "UTF-8", str(path)]
        with running(["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", *options], java=java) as output:
            lines = output().split("\n")
    if lines[len(texts) :] not in ([], [""]) or len(lines) < len(texts):
        raise BTCChatError(f"the PTB tokeniser returned {len(lines)} lines for {len(texts)} texts")
    # The library lists -LRB- and the like in upper case only, so brackets stay, as -lrb-: COCO's scores include them.
    # A token may contain a no-break space ("1 1/2"), so split at plain spaces only.
    drop = {*library.PUNCTUATIONS, ""}
    return [" ".join(word for word in line.split(" ") if word not in drop) for line in lines[: len(texts)]]


class Preset(NamedTuple):
    """``apply(texts, java)`` -> texts; ``ids``: METEOR reads words as vocabulary numbers."""

    apply: Callable[[Sequence[str], str | None], list[str]]
    about: str
    ids: bool = False


PRESETS: Registry[Preset] = Registry(
    "text preset",
    {
        "levir-cc": Preset(levir_cc, "lower case, full stop dropped, split on spaces"),
        "ptb": Preset(ptb, "Stanford PTB tokens in lower case, punctuation dropped"),
        "raw": Preset(raw, "as written, split on spaces"),
        "vocab-ids": Preset(
            levir_cc, "like levir-cc, but METEOR reads word numbers, as in RSICC and Chg2Cap", ids=True
        ),
    },
)


def build_preset(name: str) -> Preset:
    return PRESETS.find(name)


# METEOR's paraphrases contain small numbers (years, thousands), so a vocabulary in another order scores up to 0.13
# more. They do not contain these numbers, so the score does not depend on the order.
FIRST_ID = 1_234_000


def as_ids(texts: Sequence[str]) -> list[str]:
    """Words as numbers, in the order in which they first occur."""
    number: dict[str, int] = {}
    return [" ".join(str(number.setdefault(word, FIRST_ID + len(number))) for word in text.split()) for text in texts]
