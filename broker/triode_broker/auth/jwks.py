"""Keys that an identity provider publishes (JWKS, RFC 7517): fetched ahead, kept through an outage.

Knows one URL, which the configuration says and no token. The surprising decision: a token with a key that is not
known makes us look, but once in ten seconds, whoever asks and however often; so nobody can use the broker to flood
the provider, and a key that was just made is known before long.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from triode_broker.auth.asking import Ask, NoReply
from triode_broker.auth.known import NotKnown
from triode_broker.auth.strict_json import BadJson, parse_object

if TYPE_CHECKING:
    from triode_broker.auth.signing_keys import SigningKey

MAX_BYTES: Final = 262_144
MAX_KEYS: Final = 64
TIMEOUT_SECONDS: Final = 4.0  # below the time that clients have for `connect`
RETRY_SECONDS: Final = 10.0

Named = tuple[str, str]  # algorithm and kid


class KeysOfUrl:
    """The keys behind one URL, for the algorithms of the rows that name it; `tokens.Source`.

    Times are of `steady`, in seconds. Keys that could not be fetched anew are good for `stale_seconds`.
    """

    def __init__(
        self,
        url: str,
        algorithms: Sequence[str],
        refresh_seconds: float,
        stale_seconds: float,
        ask: Ask,
        log: Any,
        steady: Callable[[], float] = trio.current_time,
    ) -> None:
        self._url = url
        self._algorithms = tuple(algorithms)
        self._refresh_seconds = refresh_seconds
        self._stale_seconds = stale_seconds
        self._ask = ask
        self._log = log
        self._steady = steady
        self._keys: Mapping[Named, SigningKey] = {}
        self._good_until = 0.0  # the keys
        self._not_before = 0.0  # the next fetch
        self._under_way: trio.Event | None = None
        self._failure = ""  # why the last fetch failed; "" after one that has not

    @property
    def trouble(self) -> str:
        """What is wrong, for health; "" while nothing is. Without the URL, which is in the log."""
        left = self._good_until - self._steady()
        if self._keys and left <= 0:
            return f"those that were fetched last are too old: {self._failure}"
        if self._keys and self._failure:
            return f"those that were fetched last are good for {left:.0f} s: {self._failure}"
        return f"there are none: {self._failure or 'not fetched yet'}" if not self._keys else ""

    def find(self, algorithm: str, kid: str) -> "Sequence[SigningKey]":
        """`tokens.Source.find`."""
        if self._keys and self._steady() >= self._good_until:
            self._log.error("jwks_stale", url=self._url)
            self._keys = {}
        if not self._keys and not self.may_know_more():
            raise NotKnown("the keys that sign tokens cannot be fetched", int(RETRY_SECONDS * 1000))
        if kid:
            return [key] if (key := self._keys.get((algorithm, kid))) is not None else []
        return [key for (named, _), key in self._keys.items() if named == algorithm]

    def may_know_more(self) -> bool:
        """Whether a fetch is under way, or may be begun."""
        return self._under_way is not None or self._steady() >= self._not_before

    async def renew(self) -> None:
        """Fetch them, or wait until whoever is at it has; nothing where that was tried just now."""
        if self._under_way is not None:
            await self._under_way.wait()
        elif self.may_know_more():
            self._under_way = trio.Event()
            self._not_before = self._steady() + RETRY_SECONDS
            try:
                await self._fetch()
            finally:
                self._under_way.set()
                self._under_way = None

    async def run(self) -> None:
        """Stay ahead of what expires and changes, until cancelled."""
        while True:
            await self.renew()
            await trio.sleep(RETRY_SECONDS if self._failure else self._refresh_seconds)

    async def _fetch(self) -> None:
        try:
            reply = await self._ask(
                self._url, body=None, headers={}, max_bytes=MAX_BYTES, timeout_seconds=TIMEOUT_SECONDS
            )
            if reply.status != 200:
                raise NoReply(f"answered {reply.status}")
            keys = parse_keys(reply.body, self._algorithms)
        except NoReply as error:
            self._failed(str(error))
            return
        except Exception as error:  # noqa: BLE001  # S1: the barrier of this task; a document is from outside
            self._failed(f"a fault of ours: {type(error).__name__}")
            return
        if self._failure or keys.keys() != self._keys.keys():
            self._log.info("jwks_fetched", url=self._url, kids=[kid for _, kid in keys])
        self._failure = ""
        self._keys = keys
        self._good_until = self._steady() + self._stale_seconds

    def _failed(self, reason: str) -> None:
        if not self._failure:  # once, until it works again
            left = max(int(self._good_until - self._steady()), 0) if self._keys else 0
            self._log.warning("jwks_failed", url=self._url, reason=reason, old_keys_good_for_seconds=left)
        self._failure = reason


def parse_keys(body: bytes, algorithms: Sequence[str]) -> "Mapping[Named, SigningKey]":
    """The keys in a JWKS document that are for one of these algorithms. Raises NoReply where there is none."""
    try:
        listed = parse_object(body).get("keys")
    except BadJson as error:
        raise NoReply(f"the answer {error}") from None
    if not isinstance(listed, list):
        raise NoReply("the answer has no list `keys`")
    found = {named: key for jwk in listed[:MAX_KEYS] for named, key in _of_jwk(jwk, algorithms)}
    if not found:
        raise NoReply(f"the answer has no key that is for {' or '.join(algorithms)}, strong enough and public")
    return found


def _of_jwk(jwk: object, algorithms: Sequence[str]) -> "Iterator[tuple[Named, SigningKey]]":
    """What of a document cannot be used is passed over: providers publish keys for other things, too."""
    from triode_broker.auth.signing_keys import BadKey, from_jwk  # late, as in `static_keys`

    if not isinstance(jwk, dict) or not isinstance(kid := jwk.get("kid", ""), str):
        return
    for algorithm in algorithms:
        try:
            yield (algorithm, kid), from_jwk(algorithm, jwk)
        except BadKey:
            continue
