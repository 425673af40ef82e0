"""Skips: which deliveries to one reader do not follow what it had last of their topic (`prev`, SPEC 4.3.4).

After a message has come again, the next new one of its topic says `prev` 0, or its reader would look for a hole.
"""

from triode_broker.core.item import Item

#: Topics remembered; where more would be, every delivery says 0.
MAX_TOPICS = 1_024


class Skips:
    """Topics whose next delivery follows nothing."""

    __slots__ = ("_topics",)

    def __init__(self) -> None:
        self._topics: set[str] | None = set()

    def note(self, topic: str) -> None:
        """Something of it was passed over, or comes again."""
        if self._topics is not None:
            self._topics.add(topic)
            if len(self._topics) > MAX_TOPICS:
                self._topics = None

    def prev(self, item: Item) -> int:
        """What its delivery says; -1: offset − 1."""
        topics = self._topics
        if item.prev == 0 or topics is None:
            return 0
        if topics and item.record.topic in topics:
            topics.remove(item.record.topic)
            return 0
        return item.prev
