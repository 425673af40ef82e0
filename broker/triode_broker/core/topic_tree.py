"""Topic tree: which subscriptions match a topic, with `+`, `#` and a bounded cache of answers.

Generic and pure: it knows values and an injected `gather` that turns the list of values that match a topic into
what callers want (the router's audience). The surprising decision: the cache holds gathered answers and is emptied
as a whole when a wildcard comes or goes, but only one entry is dropped for an exact filter, which is what nearly
all filters are.
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from triode_protocol.topics import is_reserved, is_wildcard

#: What an answer costs in the cache beside its values, as a number of values (about 25 bytes each).
ANSWER_VALUES = 20

Value = TypeVar("Value")
Answer = TypeVar("Answer")


def is_any(values: Sequence[object], topic: str) -> bool:
    """A `gather` for those who only ask whether there are any."""
    return bool(values)


class _Node(Generic[Value]):
    __slots__ = ("children", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[Value]] = {}
        self.values: dict[Value, None] = {}  # a dict for its order: earliest subscription first


class TopicTree(Generic[Value, Answer]):
    """Filters and their values. Matching is iterative and visits at most 2^levels nodes (levels ≤ 16, S24)."""

    __slots__ = ("_cached", "_exact", "_gather", "_root", "cache", "max_cached", "size")

    def __init__(self, gather: Callable[[list[Value], str], Answer], max_cached: int) -> None:
        self._gather = gather
        self.max_cached = max_cached  # values in all cached answers, an answer itself counting as ANSWER_VALUES
        self._cached = 0
        self._exact: dict[str, dict[Value, None]] = {}
        self._root: _Node[Value] = _Node()
        self.cache: dict[str, Answer] = {}  # read directly by the hot path; `match` fills it
        self.size = 0

    def add(self, filter: str, value: Value) -> None:
        """Register a value under a checked filter; it must not be there yet."""
        if is_wildcard(filter):
            node = self._root
            for level in filter.split("/"):
                node = node.children.setdefault(level, _Node())
            node.values[value] = None
            self.cache.clear()
        else:
            self._exact.setdefault(filter, {})[value] = None
            self.cache.pop(filter, None)
        self.size += 1

    def remove(self, filter: str, value: Value) -> None:
        """Take a value out again. Raises KeyError if it is not there."""
        if is_wildcard(filter):
            self._remove_wildcard(filter.split("/"), value)
            self.cache.clear()
        else:
            values = self._exact[filter]
            del values[value]
            if not values:
                del self._exact[filter]
            self.cache.pop(filter, None)
        self.size -= 1

    def _remove_wildcard(self, levels: list[str], value: Value) -> None:
        path = [self._root]
        for level in levels:
            path.append(path[-1].children[level])
        del path[-1].values[value]
        for depth in range(len(levels), 0, -1):  # prune what is empty now
            node = path[depth]
            if node.values or node.children:
                return
            del path[depth - 1].children[levels[depth - 1]]

    def match(self, topic: str) -> Answer:
        """What `gather` makes of the values whose filters match a checked topic."""
        answer = self.cache.get(topic)
        if answer is None:
            found = self._find(topic)
            answer = self._gather(found, topic)
            if not self.cache:
                self._cached = 0
            self._cached += len(found) + ANSWER_VALUES
            if self._cached > self.max_cached:
                self.cache.clear()
                self._cached = len(found) + ANSWER_VALUES
            self.cache[topic] = answer
        return answer

    def _find(self, topic: str) -> list[Value]:
        found = list(self._exact.get(topic, ()))
        if not self._root.children:
            return found
        levels = topic.split("/")
        nodes = [self._root]
        for place, level in enumerate(levels):
            wild = place > 0 or not is_reserved(topic)  # SPEC 6.4: + and # do not match a first level with $
            following = []
            for node in nodes:
                if wild and (rest := node.children.get("#")) is not None:
                    found += rest.values
                if wild and (one := node.children.get("+")) is not None:
                    following.append(one)
                if (same := node.children.get(level)) is not None:
                    following.append(same)
            nodes = following
        for node in nodes:
            found += node.values
            if (rest := node.children.get("#")) is not None:  # a/# matches a
                found += rest.values
        return found
