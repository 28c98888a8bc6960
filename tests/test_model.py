"""The whole path on a random model: batches, modalities, dates, answers."""

import pytest
import torch
from PIL import Image

from btcchat import BTCChatError, Record, request
from btcchat.change_encoder import CHANGE_ENCODERS
from btcchat.decoding.options import GenerationOptions
from btcchat.generation import generate_ids
from tests.tiny import ATTENTIVE, tiny_model


def picture(seed: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
    noise = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(noise.to(torch.uint8).numpy(), "RGB")


def requests() -> list[Record]:
    """One of each modality, two pairs that differ, and unequal lengths."""
    a, b, c, d = (picture(seed) for seed in range(4))
    return [
        request("What changed between the two images?", "pair", [a, b]),
        request("two houses?", "image", a),
        request("What changed?", "pair", [c, d]),
        request("What changed in these dates, and when?", "series", [a, b, c], dates=["2010", "2012", "2019"]),
        request("What is it?", "text"),
        request("What happened?", "video", [a, b, c, d]),
    ]


def batch_of(model, records: list[Record]) -> dict:
    batch = model.processor.collate([model.processor(record, train=False) for record in records])
    del batch["labels"]
    return batch


@pytest.fixture(scope="module", params=["attentive", "concat"])
def model(request, tmp_path_factory):
    encoder = ATTENTIVE if request.param == "attentive" else {"change_encoder_type": "concat"}
    return tiny_model(tmp_path_factory.mktemp("model"), change_encoder=encoder, num_video_frames=4)


def test_a_mixed_batch_gives_the_outputs_of_one_by_one(model):
    asked = requests()
    together = model.embed(**batch_of(model, asked))
    with torch.no_grad():
        logits = model(**batch_of(model, asked)).logits
        for row, request in enumerate(asked):
            alone = model(**batch_of(model, [request])).logits[0]
            assert int(together.attention_mask[row].sum()) == len(alone)
            torch.testing.assert_close(logits[row, : len(alone)], alone, atol=1e-4, rtol=0)
    options = GenerationOptions(8)
    assert model.answer(asked, options) == [model.answer([r], options)[0] for r in asked]


def test_the_loss_of_a_batch_is_the_mean_over_all_its_supervised_tokens(model):
    batch = batch_of(model, requests())
    labels = batch["input_ids"].where(batch["input_ids"] >= 0, torch.tensor(-100))
    labels[:, :3] = -100
    labels[~batch["attention_mask"].bool()] = -100
    with torch.no_grad():
        loss = model(labels=labels, **batch).loss
        merged = model.embed(labels=labels, **batch)
        logits = model(**batch).logits
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), merged.labels[:, 1:].flatten())
    torch.testing.assert_close(loss, expected)


def test_without_supervised_tokens_the_loss_is_zero_and_not_nan(model):
    batch = batch_of(model, requests()[:1])
    assert model(labels=torch.full_like(batch["input_ids"], -100), **batch).loss.item() == 0


def test_swapping_the_dates_changes_the_features(model):
    pixels = model.processor.pixels([picture(seed) for seed in (0, 1)])
    there, _ = model.encode(pixels, ["pair"], [2])
    back, _ = model.encode(pixels.flip(0), ["pair"], [2])
    assert (there - back).abs().max() > 1e-3


def test_segments_follow_the_modality_and_are_not_guessed_from_the_number_of_frames(model):
    v = model.change_encoder.segments
    shown = [("pair", 2), ("video", 2), ("series", 3), ("image", 1)]
    assert [model.layout.num_segments(*x) for x in shown] == [v, 2, 3, 1]
    features, lengths = model.encode(torch.rand(4, 3, 32, 32), ["pair", "video"], [2, 2])
    assert lengths == [model.layout.image_tokens] * (v + 2) and len(features) == sum(lengths)
    with pytest.raises(BTCChatError, match=r"1 image, a pair needs 2 \(before, after\)"):
        model.layout.num_segments("pair", 1)
    with pytest.raises(BTCChatError, match="17 images, a series needs 2 to 16"):
        model.layout.num_segments("series", 17)


def test_an_encoder_that_pools_tokens_declares_how_many_are_left(tmp_path):
    encoder = {"change_encoder_type": "difference_aware", "mlp_dim": 24, "downsample_ratio": 2}
    model = tiny_model(tmp_path, change_encoder=encoder, mm_vision_select_layer=[-2, -1], series_change_tokens=True)
    pixels = torch.rand(2, 3, 32, 32)
    for modality, frames in (("pair", 2), ("image", 1), ("series", 2)):
        _, lengths = model.encode(pixels[:frames], [modality], [frames])
        assert lengths == model.layout.lengths(modality, frames)
    assert model.layout.change_tokens < model.layout.image_tokens


@pytest.mark.parametrize("modality", ["series", "video"])
def test_change_tokens_may_be_inserted_between_consecutive_frames(tmp_path, modality):
    model = tiny_model(tmp_path, **{f"{modality}_change_tokens": True})
    other = {"series": "video", "video": "series"}[modality]
    assert model.layout.num_segments(other, 3) == 3
    pixels = torch.rand(3, 3, 32, 32)
    features, lengths = model.encode(pixels, [modality], [3])
    m = model.layout.image_tokens
    segments = features.unflatten(0, (-1, m))  # date 0, change 0-1, date 1, change 1-2, date 2
    assert len(segments) == model.layout.num_segments(modality, 3) == 5
    torch.testing.assert_close(segments[0], model.encode(pixels[:1], ["image"], [1])[0])
    torch.testing.assert_close(segments[1], model.encode(pixels[:2], ["pair"], [2])[0])
    torch.testing.assert_close(segments[3], model.encode(pixels[1:], ["pair"], [2])[0])
    torch.testing.assert_close(segments[4], model.encode(pixels[2:], ["image"], [1])[0])
    frames = [picture(seed) for seed in range(3)]
    dates = ["2010", "2011", "2012"] if modality == "series" else None
    assert isinstance(model.ask("When?", **{modality: frames}, dates=dates, max_new_tokens=2), str)


def test_streaming_gives_the_answer_of_ask_and_answers_are_repeatable(model):
    pair = (picture(0), picture(1))
    answer = model.ask("What changed?", pair=pair, max_new_tokens=12)
    assert "".join(model.stream("What changed?", pair=pair, max_new_tokens=12)).strip() == answer
    assert model.ask("What changed?", pair=pair, max_new_tokens=12) == answer


def test_sampling_repeats_with_its_seed(model):
    options = {"pair": (picture(0), picture(1)), "max_new_tokens": 12, "temperature": 2.0}
    state = torch.random.get_rng_state()
    first = [model.ask("What changed?", seed=seed, **options) for seed in (1, 2)]
    assert first == [model.ask("What changed?", seed=seed, **options) for seed in (1, 2)] and first[0] != first[1]
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's random state is not changed


def test_a_closed_stream_stops_generation(model, monkeypatch):
    steps = []
    decoder = model.llm.get_decoder()
    forward = decoder.forward
    monkeypatch.setattr(decoder, "forward", lambda *args, **kwargs: steps.append(1) or forward(*args, **kwargs))
    pieces = model.stream("What changed?", pair=(picture(0), picture(1)), max_new_tokens=300)
    next(pieces)
    pieces.close()
    assert len(steps) < 100


def test_an_error_while_streaming_reaches_the_reader(model, monkeypatch):
    monkeypatch.setattr(model.llm.get_decoder(), "forward", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(model.stream("What changed?", pair=(picture(0), picture(1))))


def test_history_is_read_and_its_images_are_not_shown_twice(model):
    pair = [picture(0), picture(1)]
    history = [{"from": "human", "value": "What changed?"}, {"from": "gpt", "value": "two houses"}]
    batch = batch_of(model, [request("Where?", "pair", pair, history=history)])
    assert int((batch["input_ids"] == -200).sum()) == model.change_encoder.segments
    text = model.tokenizer.decode(batch["input_ids"][0].clamp(min=0))
    assert "two houses" in text and text.index("What changed?") < text.index("two houses") < text.index("Where?")


def test_the_error_for_a_prompt_longer_than_the_context_gives_both_lengths(model):
    with pytest.raises(BTCChatError, match=r"\d+ tokens.* 512"):
        model.ask("houses " * 600, image=picture(0))


def test_an_answer_never_exceeds_the_context(model):
    batch = batch_of(model, [request("houses " * 60, "image", picture(0))])
    length = int(model.embed(**batch).attention_mask.sum())
    model.config.llm["tokenizer_model_max_length"] = length + 3
    try:
        assert len(generate_ids(model, batch, GenerationOptions(50))[0]) <= 3
    finally:
        model.config.llm["tokenizer_model_max_length"] = 512


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "a.png", "pair": ("a.png", "b.png")}, "image and pair were given"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_wrong_options_are_errors_of_one_line(model, options, message):
    with pytest.raises(BTCChatError, match=message):
        model.ask("What changed?", **options)


def test_a_frozen_part_stays_in_eval_and_a_trained_one_does_not(tmp_path):
    model = tiny_model(tmp_path)
    model.change_encoder.requires_grad_(False)
    model.train()
    assert not model.change_encoder.training and model.vision_tower.training and model.llm.training
    model.change_encoder.requires_grad_(True)
    assert model.train().change_encoder.training


def test_a_third_party_change_encoder_is_registered_with_one_row(tmp_path, monkeypatch):
    class Difference(torch.nn.Module):
        """After minus before, with fewer tokens than a frame."""

        segments = 1

        def __init__(self, *, hidden_size, grid, num_depths, keep=4):
            super().__init__()
            self.keep = keep

        def forward(self, features):
            return (features[:, 1:, -1] - features[:, :1, -1])[:, :, : self.keep]  # (P, 1, keep, C)

        def num_tokens(self, tokens):
            return self.keep

    monkeypatch.setitem(CHANGE_ENCODERS, "difference", Difference)
    model = tiny_model(tmp_path / "tokens", change_encoder={"change_encoder_type": "difference", "keep": 4})
    _, lengths = model.encode(torch.rand(3, 3, 32, 32), ["pair", "image"], [2, 1])
    assert lengths == [1, 4]  # 4 tokens and 16 tokens, downsampled 2x2
    model.save_pretrained(tmp_path / "saved")
    assert type(model).from_pretrained(tmp_path / "saved").change_encoder.keep == 4
