import threading
import time
import weakref
from concurrent.futures import Future

import pytest
import torch

from btcchat import request
from btcchat.assets import PACKAGE
from btcchat.errors import BTCChatError
from btcchat.generation import Decoder, GenerationOptions
from btcchat.serve import engine as engine_module
from btcchat.serve.engine import Closed, Engine, EngineFault, EngineLimits, QueueFull
from btcchat.serve.job import OutOfTime

PAIR = [PACKAGE / "assets" / "example" / name for name in ("before.png", "after.png")]


@pytest.fixture
def sample(tiny):
    """Make the model's input from a question."""

    def make(question: str = "What changed?", modality: str = "pair", images=PAIR, **options):
        return tiny.processor(request(question, modality, images, **options), train=False)

    return make


def text(sample):
    return sample("Hello", "text", None)


def options(tokens: int, **others) -> GenerationOptions:
    return GenerationOptions(tokens, **others)


def mixed() -> list:
    """Requests of every modality, greedy and sampled, short and long."""
    records = [
        request("Describe the changes.", "pair", PAIR),
        request("What is here?", "image", PAIR[0]),
        request("When?", "series", PAIR * 2, dates=["1", "2", "3", "4"]),
        request("What happens?", "video", PAIR * 3),
        request("Hello", "text"),
    ]
    each = [GenerationOptions(4), GenerationOptions(40), GenerationOptions(25, temperature=1.0, seed=7)]
    return [(record, each[number % 3]) for number, record in enumerate(records * 2)]


def test_answers_written_together_equal_those_written_alone(tiny):
    requests = mixed()
    alone = [tiny.answer([record], own)[0] for record, own in requests]
    with Engine(tiny, EngineLimits(rows=4, prefill=200)) as engine:
        answers = []
        for record, own in requests:
            answers.append(engine.submit(tiny.processor(record, train=False), own))
            time.sleep(0.02)  # some join while others are being written
        assert [answer.text() for answer in answers] == alone
        assert {answer.finish_reason for answer in answers} <= {"stop", "length"}


def test_the_pieces_come_one_by_one_and_are_the_text(tiny, sample):
    with Engine(tiny) as engine:
        pieces = list(engine.submit(sample(tiny.config.caption_question), options(60)))
        [whole] = tiny.answer([request(tiny.config.caption_question, "pair", PAIR)], options(60))
    assert len(pieces) > 5
    assert "".join(pieces).strip() == whole


def test_prompt_tokens_include_those_of_the_images(tiny, sample):
    with Engine(tiny) as engine:
        question = sample(modality="series", images=PAIR * 2)
        answer = engine.submit(question, options(3))
        answer.text()
        embeds = engine_module.read_prompts(tiny, tiny.processor.collate([question]))
    assert answer.prompt_tokens == len(embeds[0])
    assert 1 <= answer.completion_tokens <= 3


def test_a_short_request_waits_for_one_step_of_a_long_answer(tiny, sample, gate, endless):
    with Engine(tiny) as engine:
        gate.close()
        long = engine.submit(sample(), options(300))
        gate.wait()
        begun, ended = gate.steps, Future()

        def deliver(piece: str | None) -> None:  # in the engine's thread, at the end of a step
            if piece is None:
                ended.set_result((gate.steps, long.finish_reason))

        engine.submit(text(sample), options(1), deliver=deliver)
        gate.open()
        assert ended.result(100) == (begun + 1, None)  # after the step in progress it is read, written and sent
        long.cancel()


def test_a_step_reads_no_more_prompts_than_its_limit(tiny, sample, gate):
    steps = []
    with Engine(tiny, EngineLimits(prefill=200), steps.append) as engine:
        gate.close()
        answers = [engine.submit(sample(), options(8)) for _ in range(7)]  # of 78 tokens
        gate.open()
        [answer.text() for answer in answers]
    assert max(after - before for before, after in zip([0, *steps], steps, strict=False)) <= 2


def test_answers_stay_within_the_token_budget(tiny, sample, gate, endless):
    longest = engine_tokens(tiny, sample()) + 10
    steps = []
    with Engine(tiny, EngineLimits(tokens=3 * longest), steps.append) as engine:
        gate.close()
        answers = [engine.submit(sample(), options(10)) for _ in range(8)]
        gate.open()
        [answer.text() for answer in answers]
    assert max(steps) == 3


def test_an_answer_above_the_whole_budget_is_written_alone(tiny, sample, gate):
    steps = []
    with Engine(tiny, EngineLimits(tokens=10, prefill=10), steps.append) as engine:
        gate.close()
        answers = [engine.submit(sample(), options(4)) for _ in range(2)]
        gate.open()
        assert len({answer.text() for answer in answers}) == 1
    assert max(steps) == 1


def engine_tokens(model, sample) -> int:
    with Engine(model) as engine:
        return engine.prompt_tokens(sample)


def test_a_client_with_many_requests_does_not_delay_another(tiny, sample, gate):
    ended = []
    with Engine(tiny, EngineLimits(rows=1)) as engine:
        gate.close()
        for name in ("first", "a1", "a2", "a3", "b1"):
            note = lambda piece, name=name: piece is None and ended.append(name)  # noqa: E731
            engine.submit(text(sample), options(1), client=name[0], deliver=note)
            if name == "first":
                gate.wait()
        gate.open()
        engine.close(30)
    assert ended == ["first", "a1", "b1", "a2", "a3"]


def test_a_full_queue_refuses_until_there_is_room(tiny, sample, gate):
    with Engine(tiny, EngineLimits(queue=2, rows=1)) as engine:
        gate.close()
        first = engine.submit(text(sample), options(2))
        gate.wait()
        waiting = [engine.submit(text(sample), options(2)) for _ in range(2)]
        assert engine.waiting == 2
        with pytest.raises(QueueFull, match="2 requests are already waiting; try again later"):
            engine.submit(text(sample), options(2))
        waiting[0].cancel()  # which makes room at once
        last = engine.submit(text(sample), options(2))
        gate.open()
        assert first.text() == waiting[1].text() == last.text()
        assert waiting[0].text() == "" and waiting[0].finish_reason == "cancelled"


def test_a_cancelled_answer_leaves_and_the_others_are_not_affected(tiny, sample, gate, endless):
    alone = tiny.answer([request("What changed?", "pair", PAIR)], options(60))
    with Engine(tiny) as engine:
        gate.close()
        first = engine.submit(sample(), options(900), deliver=lambda piece: first.cancel())
        others = [engine.submit(sample(), options(60)) for _ in range(2)]
        gate.open()
        assert [answer.text() for answer in others] == alone * 2
        assert first.finish_reason == "cancelled"
        assert 0 < first.completion_tokens < 60


def test_an_error_in_the_model_ends_the_active_answers_and_nothing_else(tiny, sample, gate, monkeypatch, endless):
    step, faults = Decoder.step, [RuntimeError("DefaultCPUAllocator: can't allocate memory")]

    def faulty(decoder):
        if len(decoder.active) == 2 and faults:
            raise faults.pop()
        return step(decoder)

    with Engine(tiny, EngineLimits(rows=2)) as engine:
        expected = engine.submit(text(sample), options(5)).text()
        monkeypatch.setattr(Decoder, "step", faulty)
        before = engine._decoder
        gate.close()
        answers = [engine.submit(text(sample), options(5)) for _ in range(3)]
        gate.open()
        for answer in answers[:2]:
            with pytest.raises(EngineFault, match="not enough memory"):
                answer.text()
            assert answer.finish_reason == "error"
        assert answers[2].text() == expected
        assert engine.is_open and engine._decoder is not before  # a decoder is unusable after a fault


def test_a_bug_is_one_line_and_its_traceback_is_in_the_log(tiny, sample, monkeypatch, caplog):
    monkeypatch.setattr(Decoder, "step", lambda decoder: {}["key"])
    with Engine(tiny) as engine:
        with pytest.raises(EngineFault, match="^internal error, KeyError; the log has its traceback$"):
            engine.submit(text(sample)).text()
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        ("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be reported later", True),
        ("CUDA error: out of memory", False),
        ("shapes do not match", False),
    ],
)
def test_a_gpu_that_computes_nothing_more_is_reported(tiny, sample, monkeypatch, fault, broken):
    def faulty(decoder):
        raise RuntimeError(fault)

    monkeypatch.setattr(Decoder, "step", faulty)
    reported = []
    with Engine(tiny, on_broken=reported.append) as engine, pytest.raises(EngineFault):
        engine.submit(text(sample)).text()
    assert [str(error) for error in reported] == [fault] * broken


def test_a_request_that_cannot_be_read_does_not_spoil_the_others(tiny, sample, gate):
    with Engine(tiny) as engine:
        gate.close()
        first = engine.submit(text(sample), options(2))
        gate.wait()
        good, bad = sample(), sample()
        bad["input_ids"] = bad["input_ids"].clone().fill_(10**6)  # not in the vocabulary
        answers = [engine.submit(one, options(3)) for one in (good, bad, good)]
        gate.open()
        assert answers[0].text() == answers[2].text() != ""
        with pytest.raises(BTCChatError, match="the prompts have 0 placeholders"):
            answers[1].text()
        first.text()


def test_prompts_that_did_not_fit_together_are_read_one_by_one_without_the_memory_of_the_first_try(
    tiny, sample, gate, monkeypatch
):
    class Activations:
        pass

    held, read = [], engine_module.read_prompts

    def read_few(model, batch):
        if len(batch["modalities"]) > 1:
            activations = Activations()
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert all(activations() is None for activations in held)
        return read(model, batch)

    with Engine(tiny) as engine:
        expected = engine.submit(sample(), options(4)).text()
        monkeypatch.setattr(engine_module, "read_prompts", read_few)
        gate.close()
        answers = [engine.submit(sample(), options(4)) for _ in range(3)]
        gate.open()
        assert [answer.text() for answer in answers] == [expected] * 3
    assert held


def test_a_request_that_waits_too_long_ends_with_an_error(tiny, sample, gate):
    with Engine(tiny, EngineLimits(rows=1, seconds=200)) as engine:
        gate.close()
        first = engine.submit(text(sample), options(2))
        gate.wait()
        second = engine.submit(text(sample), options(2))
        assert second.deadline == second.arrived + 200
        second.deadline = second.arrived  # as if they had passed
        gate.open()
        with pytest.raises(OutOfTime, match="in the queue and was never started"):
            second.text()
        first.text()


def test_an_answer_is_cut_at_its_time_limit(tiny, sample, gate, endless):
    with Engine(tiny, EngineLimits(seconds=200)) as engine:
        gate.close()
        answer = engine.submit(text(sample), options(900))
        gate.wait()
        answer.deadline = answer.arrived  # as if the 200 s had passed during the first step
        gate.open()
        answer.text()
        assert answer.finish_reason == "seconds"
        assert answer.completion_tokens == 1


def test_closing_finishes_the_requests_it_has(tiny, sample, gate):
    engine = Engine(tiny, EngineLimits(rows=1))
    gate.close()
    answers = [engine.submit(text(sample), options(60)) for _ in range(3)]
    closing = threading.Thread(target=engine.close, args=[60])
    closing.start()
    while engine.is_open:
        time.sleep(0.01)
    with pytest.raises(Closed, match="takes no more requests"):
        engine.submit(text(sample))
    gate.open()
    closing.join()
    assert len({answer.text() for answer in answers}) == 1
    assert {answer.finish_reason for answer in answers} == {"stop"}


def test_closing_cancels_what_takes_longer(tiny, sample, gate, endless):
    with Engine(tiny, EngineLimits(rows=1)) as engine:
        gate.close()
        answers = [engine.submit(text(sample), options(900)) for _ in range(3)]
        gate.wait()
        call = engine.call(lambda: 1)
        closing = threading.Thread(target=engine.close, args=[0.1])
        closing.start()
        while not engine._stopping:
            time.sleep(0.01)
        gate.open()
        closing.join()
        assert [answer.text() is not None and answer.finish_reason for answer in answers] == ["cancelled"] * 3
        assert call.cancelled()


def test_functions_of_the_model_run_between_steps(tiny, sample):
    with Engine(tiny) as engine:
        answer = engine.submit(sample(), options(20))
        names = engine.call(lambda: threading.current_thread().name)
        change = engine.call(lambda: tiny.change_map(*PAIR))
        fault = engine.call(lambda: {}["key"])
        assert names.result(30) == "engine"
        assert (change.result(30) == tiny.change_map(*PAIR)).all()
        with pytest.raises(KeyError):
            fault.result(30)
        assert answer.text()


def test_values_that_are_not_finite_end_only_their_own_answer(tiny, sample, gate):
    with Engine(tiny) as engine:
        gate.close()
        first = engine.submit(text(sample), options(2))
        gate.wait()
        answers = [engine.submit(sample(), options(3)) for _ in range(2)]
        gate.close()
        read = engine_module.read_prompts
        with pytest.MonkeyPatch.context() as patch:
            spoil = lambda *call: [torch.full_like(row, torch.nan) if n else row for n, row in enumerate(read(*call))]  # noqa: E731
            patch.setattr(engine_module, "read_prompts", spoil)
            gate.open()
            assert answers[0].text()
            with pytest.raises(BTCChatError, match="not finite"):
                answers[1].text()
        first.text()


def test_a_request_that_cannot_be_answered_is_refused_at_once(tiny, sample):
    with Engine(tiny) as engine:
        with pytest.raises(BTCChatError, match="an engine has no beam search"):
            engine.submit(text(sample), options(3, num_beams=2))
        long = sample()
        long["input_ids"] = long["input_ids"].repeat(40)
        with pytest.raises(BTCChatError, match="the model reads at most 1024"):
            engine.submit(long)


def test_many_requests_leave_nothing_behind(tiny, sample):
    one = text(sample)
    with Engine(tiny) as engine:
        for _ in range(20):
            answers = [engine.submit(one, options(2), client=str(number)) for number in range(40)]
            for number, answer in enumerate(answers):
                if number % 3 == 0:
                    answer.cancel()
            [answer.text() for answer in answers]
        left = engine.call(lambda: (engine.active, engine.waiting, engine._decoder.active, engine._decoder.waiting))
        assert left.result(100) == (0, 0, [], [])  # between two steps
        assert not engine._queue._items
