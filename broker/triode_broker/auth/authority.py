"""The authority: says who a client is, whatever kind of credential it has. `core.interfaces.Gate`.

Knows the kinds and their order, and nothing of connections. The surprising decision: a credential is of one kind
by its looks, and only that kind is asked. One that is refused never falls through to another kind, and who has
shown a wrong one is never let in as anonymous.
"""

import hashlib
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import trio
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from triode_broker.auth.api_keys import PREFIX
from triode_broker.auth.asking import Ask, NoReply, Reply
from triode_broker.auth.callout import Callout
from triode_broker.auth.jwks import KeysOfUrl
from triode_broker.auth.known import Known, NotAccepted, NotKnown, bare, check_name
from triode_broker.auth.refusals import Refusals
from triode_broker.auth.rules import ANONYMOUS, Rules
from triode_broker.auth.static_keys import BadCredentials, read_api_keys, read_callout_secret, read_key
from triode_broker.auth.tokens import FORM, NO_SUCH_KEY, KeysLacking, OneKey, Row, Source, Tokens
from triode_broker.config import Config
from triode_broker.core.identity import OPEN, Arrival, Identity
from triode_broker.core.rights import BadRules
from triode_broker.posture import is_open

__all__ = ["Authority", "BadCredentials"]

#: What a client is told; more stands in the log (`refusals`).
_TOLD: Final = {
    ErrorName.UNAUTHORIZED: "this credential is not accepted here; the broker's log says why",
    ErrorName.TOKEN_EXPIRED: "the token has expired",
    ErrorName.REVOKED: "this credential has been revoked",
}
_RETRY_MS: Final = 1_000

Answer = Identity | Refused
Done = Callable[[Answer], None]
FindOut = Callable[[], Awaitable[Known]]


#: What figures tell of credentials: not to be found out is neither let in nor refused.
COUNTED: Final = ("credentials_shown", "credentials_asked_elsewhere", "credentials_refused", "credentials_unknown")


class Authority:
    """Who clients are, by `config.auth`, `tokens` and `permissions`; where nothing of it is set everybody is OPEN.

    `now_ms`: the wall clock. `flush`: called after each `done` that comes later than `ask`, out of a task of
    `run`; as everybody who enters the core beside the edge. `environ`: where keys of `key_env` stand. `ask`: HTTP,
    the real one where it is None.

    Raises BadCredentials where a file or a key cannot be used (S14). `run` is started before anybody may connect:
    without it, what has to be fetched or asked for is `unavailable`.
    """

    def __init__(
        self,
        config: Config,
        log: Any,
        now_ms: Callable[[], int],
        *,
        flush: Callable[[], None],
        environ: Mapping[str, str],
        ask: Ask | None = None,
    ) -> None:
        self._config = config
        self._environ = environ
        self._log = log
        self._now_ms = now_ms
        self._flush = flush
        self._ask = ask
        self._refusals = Refusals(log, now_ms)
        self._rules = self._read_rules(config, None)
        self._sources = self._make_sources()
        self._tokens = self._read_tokens(config)
        self._api_keys = read_api_keys(config.auth)
        self._callout = self._make_callout(config)
        self._is_open = is_open(config)
        self._own: dict[bytes, Identity] = {}  # by what was handed out, as a hash (S10)
        self._nursery: trio.Nursery | None = None
        self._waiting = 0
        #: For figures, since the start.
        self.counts = dict.fromkeys(COUNTED, 0)

    # Called by the server

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch keys and ask the callout, until cancelled."""
        web = self._open_web()
        if not self._is_open and not self._config.permissions:
            self._log.warning("no_permissions", reason="nobody may do more than their own credential says")
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for source in self._sources.values():
                    nursery.start_soon(source.run)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            if web is not None:
                with trio.CancelScope(shield=True):
                    await web.aclose()

    def know(self, token: str, identity: Identity) -> None:
        """Let in who comes with this token, which only this program knows; no rule adds to what it may."""
        self._own[_digest(token)] = identity

    def reload(self, config: Config) -> None:
        """`prepare`, and have it come into force."""
        self.prepare(config)()

    def prepare(self, config: Config) -> Callable[[], None]:
        """Read rules, and files of keys, again. Raises BadCredentials (S14). Returns what puts them in force.

        For those who are connected see `judge`. Which URLs are asked is decided at the start.
        """
        if self._urls(config) != self._urls(self._config):
            raise BadCredentials("auth", "another URL of keys, or another callout, needs a restart")
        rules = self._read_rules(config, self._rules)
        tokens, api_keys, callout = (
            self._read_tokens(config),
            read_api_keys(config.auth),
            self._make_callout(config),
        )

        def commit() -> None:
            self._config, self._rules, self._tokens, self._api_keys = config, rules, tokens, api_keys
            self._callout = callout  # what was kept of answers is asked for anew

        return commit

    def degraded(self) -> list[str]:
        """For health: what is fetched or asked for and is not to be had."""
        rows = ((number, self._sources.get(row.jwks_url)) for number, row in enumerate(self._config.tokens, 1))
        found = [f"keys of tokens #{number}: {of.trouble}" for number, of in rows if of is not None and of.trouble]
        callout = self._callout
        return [*found, callout.trouble] if callout is not None and callout.trouble else found

    def judge(self, identity: Identity) -> Answer:
        """Who that is by the rules and keys in force: as before, with other rights, or nobody any more."""
        known = identity.source
        if not isinstance(known, Known):
            return identity
        try:
            return self._rules.identity(self._known_now(known))
        except NotAccepted as error:
            return Refused(error.name, _TOLD[error.name])

    def _known_now(self, known: Known) -> Known:
        if known.key:
            now = self._api_keys.now(known.key)
            if now is None:
                raise NotAccepted(f"API key {known.key} is no longer good", ErrorName.REVOKED)
            if (now.user, now.tenant) != (known.user, known.tenant):
                raise NotAccepted(f"API key {known.key} is somebody else's now")
            return now
        if known.signer is not None and not self._tokens.has(known.signer):
            raise NotAccepted("the key that has signed it is no longer configured")
        auth = self._config.auth
        if not {ANONYMOUS: auth.anonymous, "certificate": auth.certificates}.get(known.method, True):
            raise NotAccepted(f"nobody comes in by {known.method} any more")
        return known

    # Called by sessions

    def ask(self, token: str, arrival: Arrival, done: Done) -> None:
        """`core.interfaces.Gate.ask`."""
        self.counts["credentials_shown"] += 1
        try:
            answer: Answer | FindOut = self._judge(token or arrival.token, arrival)
        except Exception as error:  # noqa: BLE001  # S1: the barrier; whoever asked must hear something
            answer = self._refusal(error, arrival)
        if callable(answer):
            self._later(answer, arrival, done)
        else:
            done(answer)

    def _judge(self, given: str, arrival: Arrival) -> Identity | FindOut:
        """Who this is, or how to find out. Raises NotAccepted, NotKnown."""
        if self._is_open:
            return OPEN
        given = bare(given)
        found: Known | FindOut
        if not given:
            found = self._without_token(arrival)
        elif len(given) > self._config.limits.max_token_bytes:  # in ASCII, and every kind but one is
            raise NotAccepted(f"it is longer than {self._config.limits.max_token_bytes} bytes")
        elif self._own and (own := self._own.get(_digest(given))) is not None:
            return own
        elif given.startswith(PREFIX) and self._config.auth.api_keys_file:
            found = self._api_keys.check(given, self._now_ms())
        elif self._config.tokens and FORM.fullmatch(given):
            found = self._check_token(given)
        elif self._callout is not None:
            found = self._callout.cached(given, arrival) or partial(self._callout.find_out, given, arrival)
        else:
            raise NotAccepted("it looks like none of the kinds that are configured")
        return self._rules.identity(found) if isinstance(found, Known) else found

    def _without_token(self, arrival: Arrival) -> Known:
        if self._config.auth.certificates and arrival.certificate:
            names = [check_name(name, "the certificate's name") for name in arrival.certificate]
            roles = frozenset({"certificate", *(f"certificate:{name}" for name in names)})
            return Known(user=names[0], method="certificate", roles=roles)
        if self._config.auth.anonymous:
            return Known(user="", method=ANONYMOUS, roles=frozenset({ANONYMOUS}))
        raise NotAccepted("there is none")

    def _check_token(self, token: str) -> Known | FindOut:
        try:
            return self._tokens.check(token, self._now_ms())
        except KeysLacking as error:
            return partial(self._check_again, token, error.sources)

    async def _check_again(self, token: str, sources: Sequence[Source]) -> Known:
        for source in sources:
            await source.renew()
        try:
            return self._tokens.check(token, self._now_ms())
        except KeysLacking:
            raise NotAccepted(NO_SUCH_KEY) from None

    # Answers that come later

    def _later(self, find_out: FindOut, arrival: Arrival, done: Done) -> None:
        if self._nursery is None or self._waiting >= self._config.limits.max_waiting_credentials:
            done(self._refusal(NotKnown("too many wait already, or the node is ending"), arrival))
            return
        self._waiting += 1
        self.counts["credentials_asked_elsewhere"] += 1
        self._nursery.start_soon(self._answer, find_out, arrival, done)

    async def _answer(self, find_out: FindOut, arrival: Arrival, done: Done) -> None:
        answer: Answer = self._unavailable(_RETRY_MS)  # where the node ends meanwhile
        try:
            answer = self._rules.identity(await find_out())
        except Exception as error:  # noqa: BLE001  # S1: the barrier of this task
            answer = self._refusal(error, arrival)
        finally:
            self._waiting -= 1
            self._hand_over(answer, done)

    def _hand_over(self, answer: Answer, done: Done) -> None:
        try:
            done(answer)
        except Exception as error:  # noqa: BLE001  # S1: one session's fault must not end all that wait
            self._log.error("credential_answer_failed", **_where(error))
        self._flush()

    def _refusal(self, error: Exception, arrival: Arrival) -> Refused:
        """What the client is told; the log is told why."""
        match error:
            case NotAccepted():
                self.counts["credentials_refused"] += 1
                self._refusals.tell(error.reason, arrival.address)
                return Refused(error.name, _TOLD[error.name])
            case NotKnown():
                self.counts["credentials_unknown"] += 1
                self._refusals.tell(error.reason, arrival.address)
                return self._unavailable(error.retry_after_ms or _RETRY_MS)
            case _:
                self._log.error("credential_check_failed", **_where(error))
                return self._unavailable(_RETRY_MS)

    @staticmethod
    def _unavailable(after_ms: int) -> Refused:
        return Refused(ErrorName.UNAVAILABLE, "credentials cannot be checked now", retry_after_ms=after_ms)

    # What it is made of

    def _make_sources(self) -> dict[str, KeysOfUrl]:
        algorithms: dict[str, list[str]] = {}
        for row in self._config.tokens:
            if row.jwks_url:
                algorithms.setdefault(row.jwks_url, []).append(row.algorithm)
        refresh, stale = self._config.auth.jwks_refresh_seconds, self._config.auth.jwks_stale_seconds
        return {
            url: KeysOfUrl(url, sorted(set(named)), refresh, stale, self._request, self._log)
            for url, named in algorithms.items()
        }

    @staticmethod
    def _urls(config: Config) -> tuple[object, ...]:
        """Whom it asks, and for what."""
        return config.auth.callout_url, {(row.jwks_url, row.algorithm) for row in config.tokens if row.jwks_url}

    @staticmethod
    def _read_rules(config: Config, before: Rules | None) -> Rules:
        try:
            return Rules(config.permissions, before)
        except BadRules as error:
            raise BadCredentials("permissions", str(error)) from None

    def _read_tokens(self, config: Config) -> Tokens:
        rows = []
        for number, row in enumerate(config.tokens, 1):
            fetched = self._sources.get(row.jwks_url)
            rows.append(Row(row, fetched or OneKey(read_key(row, number, self._environ))))
        return Tokens(rows, config.auth)

    def _make_callout(self, config: Config) -> Callout | None:
        if not config.auth.callout_url:
            return None
        secret = read_callout_secret(config.auth, self._environ)
        return Callout(config.auth, config.limits, secret, self._request, self._log, self._now_ms)

    def _open_web(self) -> Any:
        if self._ask is not None or not (self._sources or self._callout):
            return None
        from triode_broker.auth.web import Web  # httpx takes 0.1 s to import, and most brokers ask nobody

        web = Web(self._config.limits.max_callouts + len(self._sources))
        self._ask = web.ask
        return web

    async def _request(
        self, url: str, *, body: bytes | None, headers: Mapping[str, str], max_bytes: int, timeout_seconds: float
    ) -> Reply:
        if self._ask is None:
            raise NoReply("not begun yet")
        return await self._ask(
            url, body=body, headers=headers, max_bytes=max_bytes, timeout_seconds=timeout_seconds
        )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _where(error: Exception) -> dict[str, object]:
    """Of a bug, what it is and where; not its text, which may hold a part of a credential (S10)."""
    frames = traceback.extract_tb(error.__traceback__)
    return {"kind": type(error).__name__, "at": [f"{frame.name}:{frame.lineno}" for frame in frames[-5:]]}
