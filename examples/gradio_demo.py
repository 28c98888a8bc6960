"""A demonstration for notebooks and Spaces: two images in, what changed and where out.

    pip install -e . gradio
    python examples/gradio_demo.py [MODEL]

In a notebook: `from gradio_demo import build`, then `build().launch()`. Gradio 6 needs today's releases, not the pinned
ones. `btcchat serve` has a page of its own, which does more.
"""

import sys
from typing import Any

import gradio
from PIL import Image

from btcchat import BTCChat, BTCChatError
from btcchat.change_encoder.change_map import overlay
from btcchat.commands.caption import EXAMPLE


def build(model: BTCChat | None = None) -> Any:
    """A `gradio.Interface` for a model, the packaged one by default."""
    model = model or BTCChat.from_pretrained()

    def answer(before: Image.Image | None, after: Image.Image | None, question: str) -> tuple[str, Image.Image]:
        if before is None or after is None:
            raise gradio.Error("Choose two images, before and after.")
        try:
            text = model.ask(question, pair=[before, after]) if question.strip() else model.caption(before, after)
            return text, overlay(model.change_map(before, after), after)
        except BTCChatError as error:
            raise gradio.Error(str(error)) from error

    images = [gradio.Image(type="pil", label=name) for name in ("Before", "After")]
    question = gradio.Textbox(label="Question", placeholder="What changed?")
    return gradio.Interface(
        answer,
        inputs=[*images, question],
        outputs=[gradio.Textbox(label="Answer"), gradio.Image(label="Where it changed")],
        examples=[[str(EXAMPLE / "before.png"), str(EXAMPLE / "after.png"), ""]],
        title="btcchat",
        description="Two images of the same place. Without a question, btcchat says what changed.",
        flagging_mode="never",
    )


if __name__ == "__main__":
    build(BTCChat.from_pretrained(*sys.argv[1:2])).launch()
