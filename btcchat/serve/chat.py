"""The chat: questions about an image, a pair, a series or a video, with answers printed as they are generated.

Answers go to stdout, everything else to stderr.
"""

import json
import os
import shlex
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

from PIL import Image

from btcchat.console.ending import DONE, SOME_FAILED, user_fault
from btcchat.console.text import typed
from btcchat.errors import BTCChatError, choose, printable
from btcchat.media.frames import Sources, load_frames

if TYPE_CHECKING:
    from btcchat.api import BTCChat
    from btcchat.clues.ask import ClueSource

HELP = """\
/pair BEFORE AFTER   talk about two dates of the same place
/image FILE          about one image
/series FILE ...     about 2 to 16 dates, or a folder of them
/video FILE          about a video, or a folder of frames
/dates DATE ...      the dates of the pair or series
/reset               forget the conversation, keep the images
/help                show this help
/quit                leave (or Ctrl-D); Ctrl-C stops an answer
Anything else is a question. Quote file names that contain spaces."""
MEDIA = {"/image": "image", "/pair": "pair", "/series": "series", "/video": "video"}


class Chat:
    """A conversation: its images, and the questions and answers so far. New images or dates start a new conversation.

    generation: keyword options of `BTCChat.stream`. as_json: print each answer as a line of JSON, without streaming.
    clues: gives a clue about the images, which becomes part of the first question.
    """

    def __init__(
        self,
        model: "BTCChat",
        *,
        generation: dict[str, Any],
        as_json: bool = False,
        clues: "ClueSource | None" = None,
    ) -> None:
        self.model, self.generation, self.as_json, self.clues = model, generation, as_json, clues
        self.modality: str | None = None
        self.frames: list[Image.Image] = []
        self.dates: list[str] | None = None
        self.clue: str | None = None
        self.history: list[dict[str, str]] = []  # in the form of a record's conversations

    def use(
        self, modality: str, source: Sources, dates: list[str] | None = None, *, loaded: Sources | None = None
    ) -> None:
        """Load these images and start a conversation about them. loaded: the images of ``source``, if already read."""
        frames = load_frames(
            modality,
            source if loaded is None else loaded,
            self.model.config.num_video_frames,
            reading=self.model.processor.reading,
        )
        clue = None if self.clues is None else self.clues([(modality, source, frames)])[0]
        self.modality, self.frames, self.dates, self.clue, self.history = modality, frames, None, clue, []
        note(f"{modality} of {len(frames)} images" if len(frames) > 1 else "one image")
        if self.clues is not None:
            note(f"clue: {clue or '(none)'}")
        if dates:
            self.set_dates(dates)

    def set_dates(self, dates: list[str]) -> None:
        """Give each image its date and start a new conversation. Raises BTCChatError for a wrong number of dates."""
        if self.modality not in ("pair", "series"):
            raise BTCChatError("dates belong to a pair or a series; load one first")
        if len(dates) != len(self.frames):
            raise BTCChatError(
                f"dates: got {len(dates)} for a {self.modality} of {len(self.frames)} images; give one for each image"
            )
        self.dates, self.history = dates, []

    def ask(self, question: str) -> None:
        """Stream the answer to stdout. The question and its answer join the history once the answer is complete."""
        if self.modality is None:
            raise BTCChatError(
                "no image is loaded; type /pair BEFORE AFTER, /image FILE, /series FILE ... or /video FILE"
            )
        shown: dict[str, Any] = {self.modality: self.frames[0] if self.modality == "image" else self.frames}
        stream = self.model.stream(
            question, **shown, dates=self.dates, history=self.history, clue=self.clue, **self.generation
        )
        text = ""
        with closing(stream) as pieces:
            try:
                for piece in pieces:
                    piece = piece if text else piece.lstrip()
                    text += piece
                    if not self.as_json:
                        print(piece, end="", flush=True)
            finally:
                if text and not self.as_json:
                    print(flush=True)
        text = text.strip()
        if self.as_json:
            print(json.dumps({"question": question, "answer": text}, ensure_ascii=False), flush=True)
        elif not text:
            note("(an empty answer)")
        self.history = [
            *self.history,
            {"from": "human", "value": question.strip()},
            {"from": "gpt", "value": text},
        ]

    def handle(self, line: str) -> bool:
        """Handle a line of input; False means leave the chat."""
        if not line.startswith("/"):
            self.ask(line)
            return True
        name, *words = _split(line)
        command = choose("command", name, dict.fromkeys([*MEDIA, "/dates", "/reset", "/help", "/quit"], name))
        if command in MEDIA:
            if not words:
                raise BTCChatError(f"{command} needs files; /help shows how")
            self.use(MEDIA[command], words)
        elif command == "/dates":
            self.set_dates(words)
        elif command == "/reset":
            self.history = []
            note(
                "the conversation is forgotten; the images are kept"
                if self.frames
                else "there is nothing to forget yet"
            )
        elif command == "/help":
            note(HELP)
        return command != "/quit"


def converse(chat: Chat) -> int:
    """Read lines until /quit or the end of the input. An error is printed as one line and does not end the chat.

    Returns an exit code: SOME_FAILED if a line failed that was not typed on a terminal.
    """
    prompt, code = "", DONE
    if sys.stdin.isatty():
        prompt = "> "
        _line_editing()
        note("Ask a question, or type /help." if chat.frames else "Load images with /pair BEFORE AFTER, or type /help.")
    while True:
        try:
            line = input(prompt).strip()
            line = line if line.startswith("/") else typed(line)
            if line and not chat.handle(line):
                return code
        except EOFError:
            if prompt:
                print()
            return code
        except KeyboardInterrupt:
            note("\n(stopped; leave with /quit or Ctrl-D)")
        except Exception as error:  # noqa: BLE001 - a bug, and stdout that is full or closed, still end the chat
            fault = user_fault(error)
            if fault is None or (isinstance(error, OSError) and error.filename is None):
                raise
            note(f"btcchat: error: {' '.join(fault.split())}")
            code = DONE if prompt else SOME_FAILED


def note(text: str) -> None:
    """Print to stderr, with control characters escaped."""
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr, flush=True)


def _split(line: str) -> list[str]:
    """Split a line into words as a shell does; on Windows, backslashes are part of a path."""
    try:
        words = shlex.split(line, posix=os.name != "nt")
    except ValueError as error:
        raise BTCChatError(f"cannot read that line: {str(error).lower()}") from error
    return [os.path.expanduser(word.strip('"') if os.name == "nt" else word) for word in words]


def _line_editing() -> None:
    """Enable arrow keys and history where the platform has them."""
    try:
        import readline
    except ImportError:  # Windows
        return
    readline.set_completer_delims(" ")
    readline.parse_and_bind("tab: complete")
