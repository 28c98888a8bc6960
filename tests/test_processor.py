"""The Processor makes samples and batches without weights, with exactly the tokens the model was trained on."""

import numpy as np
import pytest
import torch
from PIL import Image

from btcchat import BTCChat, BTCChatError, Processor, Record, request
from btcchat.media.notes import forget
from btcchat.prompt import IMAGE_TOKEN_INDEX
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"))


def picture(seed: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def test_a_processor_needs_no_weights_and_reads_like_its_model(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    for file in (tmp_path / "saved").rglob("*.safetensors"):
        keep_header(file)
    processor = Processor.from_pretrained(tmp_path / "saved", num_video_frames=3)
    assert processor.config.num_video_frames == 3
    assert processor.layout == model.processor.layout
    pair = request("What changed?", "pair", [picture(0), picture(1)], clue="few")
    theirs, ours = model.processor(pair, train=False), processor(pair, train=False)
    assert torch.equal(theirs["input_ids"], ours["input_ids"]) and torch.equal(theirs["frames"], ours["frames"])


def keep_header(file) -> None:
    """Overwrite the weights; sizes are in the header of a safetensors file."""
    data = file.read_bytes()
    length = 8 + int.from_bytes(data[:8], "little")
    with file.open("r+b") as open_file:
        open_file.seek(length)
        open_file.write(b"\xff" * (len(data) - length))  # NaN everywhere


def test_frames_are_8_bit_at_the_size_of_the_tower_and_normalised_by_the_model(model):
    sample = model.processor(request("What?", "pair", [picture(0), picture(1)]), train=False)
    assert sample["frames"].dtype == torch.uint8 and sample["frames"].shape == (2, 3, 32, 32)
    values = model.pixel_values(sample["frames"])
    expected = (sample["frames"].float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(values, expected)
    batch = model.processor.collate([sample])
    del batch["labels"]
    floats = {**batch, "frames": None, "pixel_values": values}
    with torch.no_grad():
        assert torch.equal(model(**floats).logits, model(**batch).logits)


def test_frames_that_are_already_loaded_are_not_loaded_again(model):
    record = Record("r", "pair", ["missing.png", "gone.png"], [{"from": "human", "value": "What?"}])
    frames = [picture(0), picture(1)]
    by_image = model.processor(record, frames, train=False)
    by_pixels = model.processor(record, model.processor.pixels(frames), train=False)
    assert torch.equal(by_image["frames"], by_pixels["frames"])
    with pytest.raises(BTCChatError, match="missing.png"):
        model.processor(record, train=False)


def test_the_layout_matches_a_forward_pass(model):
    for modality, frames in (("image", 1), ("pair", 2), ("series", 3), ("video", 4)):
        pixels = torch.zeros(frames, 3, 32, 32, dtype=torch.uint8)
        features, lengths = model.encode(pixels, [modality], [frames])
        assert lengths == model.layout.lengths(modality, frames) and len(features) == sum(lengths)


def test_parts_that_return_a_wrong_number_of_tokens_are_an_error(model, monkeypatch):
    import dataclasses

    wrong = dataclasses.replace(model.processor.layout, change_tokens=3)
    monkeypatch.setattr(model.processor, "layout", wrong)
    with pytest.raises(BTCChatError, match="the parts return 4 rows of features, but their num_tokens say 3"):
        model.encode(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), ["pair"], [2])


def test_a_placeholder_is_text_in_a_request_but_not_in_a_record(model):
    typed = model.processor(request("what is <image> ?", "image", picture(0)), train=False)
    written = Record("r", "image", [picture(0)], [{"from": "human", "value": "what is <image> ?"}])
    assert (typed["input_ids"] == IMAGE_TOKEN_INDEX).sum() == 1
    text = model.tokenizer.decode(typed["input_ids"].clamp(min=0))
    assert "what is <image> ?" in text
    asked = model.tokenizer.decode(model.processor(written, train=False)["input_ids"].clamp(min=0))
    assert "<image>" not in asked


def test_a_request_is_checked_when_it_is_created():
    with pytest.raises(BTCChatError, match="the question is empty"):
        request(" \n", "image", picture(0))
    with pytest.raises(TypeError, match="question must be a string, not int"):
        request(5)


def test_a_truncated_sample_is_reported_and_one_without_an_answer_is_an_error(model, monkeypatch):
    turns = [{"from": "human", "value": "What changed?"}, {"from": "gpt", "value": "a house " * 20}]
    record = Record("file row 3", "image", [picture(0)], turns)
    whole = len(model.processor(record, train=True)["input_ids"])
    monkeypatch.setitem(model.config.llm, "tokenizer_model_max_length", whole - 3)
    sample = model.processor(record, train=True)
    tokens = sum(model.layout.lengths("image", 1)) - 1
    assert sample["cut"].startswith(f"file row 3, {3 + tokens} tokens too long for --model_max_length {whole - 3}")
    asked = Record("r", "image", [picture(0)], turns[:1])
    prompt = len(model.processor(asked, train=False)["input_ids"]) + tokens
    monkeypatch.setitem(model.config.llm, "tokenizer_model_max_length", prompt)
    with pytest.raises(BTCChatError, match=f"no answer is left in .* tokens; raise --model_max_length .{prompt}."):
        model.processor(record, train=True)


def test_saved_wording_is_loaded_with_the_processor(tmp_path):
    model = tiny_model(
        tmp_path / "t",
        change_encoder={"change_encoder_type": "concat"},
        pair_prompt="A <image> B <image>: ",
        caption_question="What differs?",
    )
    model.save_pretrained(tmp_path / "saved")
    processor = Processor.from_pretrained(tmp_path / "saved")
    assert processor.config.pair_prompt == "A <image> B <image>: "
    assert BTCChat.from_pretrained(tmp_path / "saved").config.caption_question == "What differs?"
    with pytest.raises(BTCChatError, match="pair_prompt has 1 <image>, expected 2, one for each segment"):
        Processor.from_pretrained(tmp_path / "saved", pair_prompt="<image>")


def sample(ids, frames, modality):
    labels = [-100, *ids[1:]]
    pixels = torch.randint(0, 256, (frames, 3, 32, 32), dtype=torch.uint8)
    return {
        "input_ids": torch.tensor(ids),
        "labels": torch.tensor(labels),
        "frames": pixels,
        "modality": modality,
    }


def test_short_texts_are_padded_and_frames_are_concatenated(model):
    pair, text = sample([1, -200, 5, 6], 2, "pair"), sample([1, 0], 0, "text")
    clip = sample([1, -200, -200, -200, 7], 3, "video")
    batch = model.processor.collate([pair, text, clip])
    assert batch["input_ids"].tolist() == [[1, -200, 5, 6, 0], [1, 0, 0, 0, 0], [1, -200, -200, -200, 7]]
    labels = [[-100, -200, 5, 6, -100], [-100, 0, -100, -100, -100], [-100, -200, -200, -200, 7]]
    assert batch["labels"].tolist() == labels
    # the second token of the text is the unknown one, id 0 like the padding: it is not masked
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert torch.equal(batch["frames"], torch.cat([pair["frames"], clip["frames"]]))
    assert batch["modalities"] == ["pair", "text", "video"]
    assert batch["frame_counts"] == [2, 0, 3]


def test_a_batch_of_texts_has_no_frames(model):
    assert model.processor.collate([sample([1, 2], 0, "text")])["frames"] is None


def test_the_loss_of_a_batch_is_the_mean_over_its_samples_tokens(model):
    torch.manual_seed(0)
    samples = [
        sample([1, -200, 9, 10, 11], 2, "pair"),
        sample([1, 30], 0, "text"),
        sample([1, -200, 40, 41, 42, 43, 44], 1, "image"),
        sample([1, -200, -200, 50], 2, "video"),
        sample([1, -200, 20, -200, 21, -200, 22], 3, "series"),
    ]
    for each in samples:
        each["labels"] = each["input_ids"].clamp(min=-100)
        each["labels"][0] = -100
    counts = [int((each["labels"] >= 0).sum()) for each in samples]
    alone = [model(**model.processor.collate([each])).loss.item() for each in samples]
    together = model(**model.processor.collate(samples)).loss.item()
    assert together == pytest.approx(np.average(alone, weights=counts), abs=1e-5)
    assert max(alone) - min(alone) > 1e-3  # otherwise the mean would prove nothing


def test_the_system_text_of_a_template_can_be_replaced(tmp_path):
    record = request("What changed?", "pair", [Image.new("RGB", (8, 8))] * 2)
    processor = tiny_model(tmp_path).processor
    usual, other = processor(record, train=False), processor(record, train=False, system="Be brief.")
    ids = [id for id in other["input_ids"].tolist() if id >= 0]
    text = processor.tokenizer.decode(ids)
    assert "Be brief." in text and "curious user" not in text
    assert torch.equal(usual["frames"], other["frames"])
    processor.config.conv_version = "plain"
    with pytest.raises(BTCChatError, match="no system text; leave out the system message"):
        processor(record, train=False, system="Be brief.")


@pytest.mark.parametrize(("modality", "count", "dates"), [("pair", 2, ["2011"]), ("series", 3, ["2011", "2012"])])
def test_a_wrong_number_of_dates_is_named_with_the_number_of_images(model, modality, count, dates):
    record = request("What changed?", modality, [picture(seed) for seed in range(count)], dates=dates)
    with pytest.raises(BTCChatError, match=f"dates: got {len(dates)} for a {modality} of {count} images; give one"):
        model.processor(record, train=False)


def test_dates_in_the_wrong_order_give_one_warning(caplog):
    forget()
    request("What changed?", "pair", [picture(0), picture(1)], dates=["2011-05-01", "2019"])
    assert not caplog.records
    for _ in range(2):
        request("What changed?", "pair", [picture(0), picture(1)], dates=["2019", "2011-05-01"])
    assert [record.getMessage() for record in caplog.records] == [
        "2019, 2011-05-01: these dates are not in order; give the earliest image first"
    ]
