"""Where the next attempt goes, and when: the addresses of a cluster, one round after the other (SPEC 5.3.6).

Knows URLs, seconds and the backoff; what a connection is, it does not. The surprising decision: every round is
shuffled anew instead of going on in the order given, because the clients of a node that has died would otherwise
all move to the one that stands behind it in everybody's list.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from math import inf
from typing import Final

from triode.backoff import Backoff, websocket_url

_DRAINING: Final = 4200
_MAX_NAMED: Final = 8  # of one `bye`
_MAX_URL_CHARACTERS: Final = 2_048


class Route:
    """Each address once per round. Between rounds passes the backoff's time, within one next to none.

    `urls`: one, or several nodes of one cluster; raises ValueError where one is none, or there is none.
    """

    def __init__(self, urls: str | Iterable[str], backoff: Backoff, random: Callable[[], float]) -> None:
        given = [urls] if isinstance(urls, str) else urls
        self._own = list(dict.fromkeys(map(websocket_url, given)))
        if not self._own:
            raise ValueError("a client needs the URL of a broker")
        self._backoff = backoff
        self._random = random  # uniform in [0, 1)
        self._resting: dict[str, float] = {}  # asked for a pause until then
        self._current = ""
        self._round = self._shuffled(self._own)

    @property
    def size(self) -> int:
        """How many addresses the program gave."""
        return len(self._own)

    def next(self, now: float) -> str:
        """The URL of the next attempt: the first of the round that wants no pause."""
        self._current = min(self._round, key=lambda url: max(self._resting.get(url, now), now))
        self._round.remove(self._current)
        self._resting.pop(self._current, None)
        return self._current

    def left(
        self,
        now: float,
        what: str,
        code: int,
        *,
        urls: Sequence[str] = (),
        asked: float = 0.0,
        was_connected: bool = False,
        was_answered: bool = False,
    ) -> float:
        """The current address has failed, or was lost: when the next attempt is due.

        `what`: "backoff" or "once". `urls` and `asked`: the addresses and the pause in seconds that it named.
        `was_answered`: it refused, so it is there; many may be refused at once, and shall not move on as one.
        """
        named = self._usable(urls)
        if named or was_connected:  # what an earlier `bye` named is over, and a broker cannot fill our memory
            self._resting = {url: until for url, until in self._resting.items() if url in self._own}
        if asked and not named:
            self._resting[self._current] = now + asked
        has_next = any(self._resting.get(url, now) <= now for url in self._round)
        if has_next and not named and not was_connected:
            return now + (self._backoff.least_seconds() if was_answered else 0.0)
        is_immediate = what == "once" and self._backoff.attempts == 0  # or a broker could make us spin
        delay = self._backoff.delay_seconds()
        due = now if is_immediate else now + delay
        if named:
            self._begin(is_staying=False)
            self._round = deque(dict.fromkeys([*named, *self._round]))  # SPEC 5.3.5: in its order
            return max(due, now + asked)
        self._begin(is_staying=what == "once" and code != _DRAINING)
        return max(due, min(self._resting.get(url, -inf) for url in self._round))

    def _begin(self, *, is_staying: bool) -> None:
        """A round of all that are known; the one that was left comes last, unless it only wants a new start."""
        patient = [url for url in self._resting if url not in self._own]  # named by a `bye`, and expecting us
        known = [*self._own, *patient]
        self._round = self._shuffled(url for url in known if url != self._current)
        if is_staying:
            self._round.appendleft(self._current)
        elif self._current in known:
            self._round.append(self._current)

    def _usable(self, urls: Sequence[str]) -> list[str]:
        """What is no such URL, or would lose the encryption, is passed over (S33)."""
        is_plain = all(own.startswith("ws:") for own in self._own)
        usable = []
        for url in urls[:_MAX_NAMED]:
            with suppress(ValueError):
                named = websocket_url(url[:_MAX_URL_CHARACTERS])
                if is_plain or named.startswith("wss:"):
                    usable.append(named)
        return usable

    def _shuffled(self, urls: Iterable[str]) -> deque[str]:
        left = list(urls)
        return deque(left.pop(int(self._random() * len(left))) for _ in range(len(left)))
