"""Rights: what one identity may do with which topics (G10). Pure; the rules come compiled (`auth`).

Deny wins, and what nothing allows is denied. The surprising decision: a filter is judged as a whole where that is
possible. One that is wholly allowed costs nothing afterwards, however many messages it brings; only where a filter
is allowed in part is each topic judged, once, and remembered.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal
from weakref import WeakValueDictionary

from triode_protocol.topics import covers, is_wildcard, matches, overlap

Action = Literal["publish", "subscribe", "presence", "history", "consume", "operate"]
#: What is done with topics; and `operate`, whose filters match the names of administration calls.
WITH_TOPICS: Final[tuple[Action, ...]] = ("publish", "subscribe", "presence", "history", "consume")
ACTIONS: Final[tuple[Action, ...]] = (*WITH_TOPICS, "operate")
#: What a filter is allowed as.
Verdict = Literal["all", "some", "none"]

#: Whether a topic, by its name inside the core, may be delivered; None: every one of its filter.
Allows = Callable[[str], bool] | None

#: Filters of one identity, of all actions, allowed and denied: a topic is compared with all of an action, once. A
#: judgement of 512 with `+` takes 0.4 ms, of the usual two or three 2 µs, a remembered answer 0.1 µs.
MAX_FILTERS: Final = 512
#: Topics whose answers are remembered, of all actions of one identity's rights (or of all identities that share
#: them), and their characters: about 100 KB. Beyond, it begins anew.
MAX_REMEMBERED: Final = 512
MAX_REMEMBERED_CHARACTERS: Final = 32_768

Rules = Mapping[Action, Iterable[str]]
_Filters = tuple[str, ...]


class BadRules(ValueError):
    """Rules that cannot hold for anybody; `str()` says why, for who wrote them."""


class Rights:
    """Filters that are allowed and denied, by action. They were checked where they came from.

    Immutable but for what it remembers; `RightsTable` makes one for all identities with equal rules.
    """

    __slots__ = ("__weakref__", "_allow", "_characters", "_count", "_deny", "known")

    def __init__(self, allow: Rules, deny: Rules | None = None) -> None:
        """Raises BadRules where there are too many."""
        made: dict[_Filters, _Rules] = {(): _NO_RULES}
        self._allow = _by_action(allow, made)
        self._deny = _by_action(deny or {}, made)
        if sum(len(rules.filters) for rules in (*self._allow.values(), *self._deny.values())) > MAX_FILTERS:
            raise BadRules(f"there are more than {MAX_FILTERS} filters for one identity")
        #: By action, topics already judged: may be read directly, `may` fills it.
        self.known: defaultdict[Action, dict[str, bool]] = defaultdict(dict)
        self._count = self._characters = 0  # of what is remembered

    @property
    def rules(self) -> tuple[tuple[_Filters, ...], tuple[_Filters, ...]]:
        """What was allowed and denied, by action in the order of ACTIONS; equal for equal rights."""
        return tuple(one.filters for one in self._allow.values()), tuple(
            one.filters for one in self._deny.values()
        )

    def may(self, action: Action, topic: str) -> bool:
        """Whether it is allowed with a checked topic."""
        answer = self.known[action].get(topic)
        if answer is None:
            answer = self._allow[action].match(topic) and not self._deny[action].match(topic)
            self._remember(action, topic, answer)
        return answer

    def _remember(self, action: Action, topic: str, answer: bool) -> None:
        self._count += 1
        self._characters += len(topic)
        if self._count > MAX_REMEMBERED or self._characters > MAX_REMEMBERED_CHARACTERS:
            for known in self.known.values():
                known.clear()
            self._count, self._characters = 1, len(topic)
        self.known[action][topic] = answer

    def verdict(self, action: Action, filter: str) -> Verdict:
        """Whether it is allowed with all topics that a checked filter matches, with some, or with none.

        "some" where it cannot be told from single rules: then each topic is asked for.
        """
        allow, deny = self._allow[action].filters, self._deny[action].filters
        if not any(overlap(one, filter) for one in allow) or any(covers(one, filter) for one in deny):
            return "none"
        if any(covers(one, filter) for one in allow) and not any(overlap(one, filter) for one in deny):
            return "all"
        return "some"

    def is_same(self, other: "Rights", action: Action, filter: str) -> bool:
        """Whether the other's rules say the same of a checked filter's topics; False where that is not plain."""
        return self is other or self._concerning(action, filter) == other._concerning(action, filter)

    def is_like(self, one: Action, other: Action, filter: str) -> bool:
        """Whether two actions are allowed with the same topics of a checked filter; False if that is not plain."""
        return self._concerning(one, filter) == self._concerning(other, filter)

    def _concerning(self, action: Action, filter: str) -> tuple[Verdict, frozenset[str], frozenset[str]]:
        verdict = self.verdict(action, filter)
        if verdict != "some":
            return verdict, frozenset(), frozenset()
        return verdict, self._allow[action].meeting(filter), self._deny[action].meeting(filter)


class _Rules:
    """Filters to compare a topic with. Most name one topic or all below one: those are not looked at singly."""

    __slots__ = ("_exact", "_prefixes", "_wild", "filters")

    def __init__(self, filters: _Filters) -> None:
        self.filters = filters
        below = [one[:-2] for one in self.filters if one.endswith("/#") and "+" not in one]
        self._exact = frozenset([*below, *(one for one in self.filters if not is_wildcard(one))])
        self._prefixes = tuple(f"{one}/" for one in below)
        self._wild = tuple(one for one in self.filters if "+" in one or one == "#")

    def match(self, topic: str) -> bool:
        """Whether one of them does."""
        if topic in self._exact or topic.startswith(self._prefixes):
            return True
        for one in self._wild:  # noqa: SIM110  # 0.5 µs less than any()
            if matches(one, topic):
                return True
        return False

    def meeting(self, filter: str) -> frozenset[str]:
        """Those that have a topic in common with another filter."""
        return frozenset(one for one in self.filters if overlap(one, filter))


_NO_RULES: Final = _Rules(())


def _by_action(rules: Rules, made: dict[_Filters, _Rules]) -> dict[Action, _Rules]:
    """Most actions have none, or those of another action (`made`): rights of one user take 2.5 KB, not 4."""
    found: dict[Action, _Rules] = {}
    for action in ACTIONS:
        filters = tuple(sorted(set(rules.get(action, ()))))
        found[action] = made[filters] = made.get(filters) or _Rules(filters)
    return found


class RightsTable:
    """One `Rights` for all who have equal rules, so that what it remembers is remembered once."""

    def __init__(self) -> None:
        self._by_rules: WeakValueDictionary[object, Rights] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._by_rules)

    def of(self, allow: Rules, deny: Rules | None = None) -> Rights:
        """The one with these rules. Raises BadRules."""
        made = Rights(allow, deny)
        return self._by_rules.setdefault(made.rules, made)


#: Where nothing is forbidden; `$…` is read by those who are allowed to by name, and dead letters are (SPEC 9.8).
#: Nobody operates a broker because it asks nobody who they are.
EVERYTHING: Final = Rights(dict.fromkeys(WITH_TOPICS, ("#", "$dead/#")))
