import pytest

from btcchat.serve.fair_queue import FairQueue


def queue_of(items: str) -> FairQueue[str]:
    queue = FairQueue()
    for item in items.split():
        queue.put(item[0], item)
    return queue


def drained(queue: FairQueue[str]) -> str:
    return " ".join(queue.pop() for _ in range(len(queue)))


@pytest.mark.parametrize(
    "arrived, served",
    [
        ("a1 a2 a3", "a1 a2 a3"),
        ("a1 a2 a3 b1", "a1 b1 a2 a3"),
        ("a1 b1 c1 a2 b2", "a1 b1 c1 a2 b2"),
        ("a1 a2 a3 b1 b2 c1", "a1 b1 c1 a2 b2 a3"),
    ],
)
def test_clients_take_turns_and_each_is_served_in_order(arrived, served):
    assert drained(queue_of(arrived)) == served


def test_a_client_that_comes_back_waits_for_the_others():
    queue = queue_of("a1 b1 c1")
    assert queue.pop() == "a1"
    queue.put("a", "a2")
    assert drained(queue) == "b1 c1 a2"


def test_peek_shows_the_next_item():
    queue = queue_of("a1 a2 b1")
    while len(queue):
        assert queue.peek() == queue.pop()
    with pytest.raises(StopIteration):
        queue.peek()


def test_items_can_be_taken_out_wherever_they_are():
    queue = queue_of("a1 b1 a2 b2")
    assert sorted(queue.take_out(lambda item: item != "a2")) == ["a1", "b1", "b2"]
    assert drained(queue) == "a2"
