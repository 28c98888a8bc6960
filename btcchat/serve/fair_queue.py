"""A queue in which clients take turns, so that one with many requests does not delay the others."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First in, first out for each client; among clients, the one whose last turn was longest ago comes first."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, deque[T]] = OrderedDict()  # the first client is next

    def __len__(self) -> int:
        return sum(map(len, self._items.values()))

    def __iter__(self) -> Iterator[T]:
        return (item for items in self._items.values() for item in items)

    def put(self, client: str, item: T) -> None:
        self._items.setdefault(client, deque()).append(item)

    def peek(self) -> T:
        """The next item; raises StopIteration if the queue is empty."""
        return next(iter(self))

    def pop(self) -> T:
        """Take out the next item; its client goes to the end of the line."""
        client, items = self._items.popitem(last=False)
        item = items.popleft()
        if items:
            self._items[client] = items
        return item

    def take_out(self, chosen: Callable[[T], bool]) -> list[T]:
        """Take out all items that are ``chosen``, wherever they are."""
        found = [item for item in self if chosen(item)]
        if found:
            kept = ((client, deque(x for x in items if not chosen(x))) for client, items in self._items.items())
            self._items = OrderedDict((client, items) for client, items in kept if items)
        return found
