"""Rights: what one identity may do with which topics (G10). Pure; the rules come compiled (`auth`).

Deny wins, and what nothing allows is denied. The surprising decision: a filter is judged as a whole where that is
possible. One that is wholly allowed costs nothing afterwards, however many messages it brings; only where a filter
is allowed in part is each topic judged, once, and remembered.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from triode_protocol.topics import covers, matches, overlap

Action = Literal["publish", "subscribe", "presence", "history", "consume"]
ACTIONS: Final[tuple[Action, ...]] = ("publish", "subscribe", "presence", "history", "consume")
#: What a filter is allowed as.
Verdict = Literal["all", "some", "none"]

#: Topics whose answers are remembered, of one action of one identity's rights; then it begins anew.
MAX_REMEMBERED: Final = 1_024

Rules = Mapping[Action, Iterable[str]]


class Rights:
    """Filters that are allowed and denied, by action. Raises nothing: filters were checked where they came from.

    Immutable but for what it remembers; made once for all identities with equal rules where that is possible.
    """

    __slots__ = ("_allow", "_deny", "known")

    def __init__(self, allow: Rules, deny: Rules | None = None) -> None:
        self._allow = {action: tuple(allow.get(action, ())) for action in ACTIONS}
        self._deny = {action: tuple((deny or {}).get(action, ())) for action in ACTIONS}
        #: By action, topics already judged: read directly by the hot path, `may` fills it.
        self.known: dict[Action, dict[str, bool]] = {action: {} for action in ACTIONS}

    def may(self, action: Action, topic: str) -> bool:
        """Whether it is allowed with a checked topic."""
        known = self.known[action]
        answer = known.get(topic)
        if answer is None:
            answer = any(matches(one, topic) for one in self._allow[action]) and not any(
                matches(one, topic) for one in self._deny[action]
            )
            if len(known) >= MAX_REMEMBERED:
                known.clear()
            known[topic] = answer
        return answer

    def verdict(self, action: Action, filter: str) -> Verdict:
        """Whether it is allowed with all topics that a checked filter matches, with some, or with none.

        "some" where it cannot be told from single rules: then each topic is asked for.
        """
        allow, deny = self._allow[action], self._deny[action]
        if not any(overlap(one, filter) for one in allow) or any(covers(one, filter) for one in deny):
            return "none"
        if any(covers(one, filter) for one in allow) and not any(overlap(one, filter) for one in deny):
            return "all"
        return "some"


#: Where nothing is forbidden; `$…` is read by those who are allowed to by name, and dead letters are (SPEC 9.8).
EVERYTHING: Final = Rights(dict.fromkeys(ACTIONS, ("#", "$dead/#")))
