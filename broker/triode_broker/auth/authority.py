"""The authority: says who a client is, whatever kind of credential it has. `core.interfaces.Gate`.

Knows the kinds and their order, and nothing of connections. The surprising decision: a credential is of one kind
by its looks, and only that kind is asked. One that is refused never falls through to another kind, and who has
shown a wrong one is never let in as anonymous.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import trio
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from triode_broker.auth.known import Known, NotAccepted, NotKnown
from triode_broker.auth.refusals import Refusals
from triode_broker.auth.rules import ANONYMOUS, Rules
from triode_broker.auth.static_keys import read_key
from triode_broker.auth.tokens import FORM, KeysLacking, OneKey, Row, Tokens
from triode_broker.config import Config
from triode_broker.core.identity import OPEN, Arrival, Identity
from triode_broker.posture import is_open

#: What a client is told; more stands in the log (`refusals`).
_TOLD: Final = {
    ErrorName.UNAUTHORIZED: "this credential is not accepted here; the broker's log says why",
    ErrorName.TOKEN_EXPIRED: "the token has expired",
    ErrorName.REVOKED: "this credential has been revoked",
}
_RETRY_MS: Final = 1_000

Answer = Identity | Refused
Done = Callable[[Answer], None]


class Authority:
    """Who clients are, by `config.auth`, `tokens` and `permissions`; where nothing of it is set everybody is OPEN.

    `now_ms`: the wall clock. `flush`: called after each `done` that comes later than `ask`, out of a task of
    `run`; as everybody who enters the core beside the edge. `environ`: where keys of `key_env` stand.
    Raises BadCredentials where a file or a key cannot be used (S14); nothing is read again but by `reload`.
    """

    def __init__(
        self,
        config: Config,
        log: Any,
        now_ms: Callable[[], int],
        *,
        flush: Callable[[], None],
        environ: Mapping[str, str],
    ) -> None:
        self._config = config
        self._log = log
        self._now_ms = now_ms
        self._flush = flush
        self._is_open = is_open(config)
        self._refusals = Refusals(log, now_ms)
        self._rules = Rules(config.permissions)
        rows = [Row(row, OneKey(read_key(row, environ))) for row in config.tokens if not row.jwks_url]
        self._tokens = Tokens(rows, config.auth)
        self._nursery: trio.Nursery | None = None
        self._waiting = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch keys and ask the callout, until cancelled; before and after, what needs them is `unavailable`."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def reload(self) -> None:
        """Read files of keys again (SIGHUP). What cannot be used changes nothing, and the log says so."""

    def ask(self, token: str, arrival: Arrival, done: Done) -> None:
        """`core.interfaces.Gate.ask`."""
        given = token or arrival.token
        try:
            answer: Answer | Callable[[], Awaitable[Known]] = self._judge(given, arrival)
        except Exception as error:  # noqa: BLE001  # S1: the barrier; whoever asked must hear something
            answer = self._refusal(error, arrival)
        if callable(answer):
            self._later(answer, arrival, done)
        else:
            done(answer)

    def _judge(self, given: str, arrival: Arrival) -> Identity | Callable[[], Awaitable[Known]]:
        """Who this is, or how to find out. Raises NotAccepted, NotKnown."""
        if self._is_open:
            return OPEN
        if not given:
            return self._rules.identity(self._without_token(arrival))
        if len(given) > self._config.limits.max_token_bytes:  # of ASCII; anything else is refused below
            raise NotAccepted(f"it is longer than {self._config.limits.max_token_bytes} bytes")
        if self._config.tokens and FORM.fullmatch(given):
            try:
                return self._rules.identity(self._tokens.check(given, self._now_ms()))
            except KeysLacking as error:
                return partial(self._check_again, given, error.sources)
        raise NotAccepted("it looks like none of the kinds that are configured")

    def _without_token(self, arrival: Arrival) -> Known:
        if self._config.auth.certificates and arrival.certificate:
            name = arrival.certificate[0]
            return Known(user=name, method="certificate", roles=frozenset({"certificate", f"certificate:{name}"}))
        if self._config.auth.anonymous:
            return Known(user="", method=ANONYMOUS, roles=frozenset({ANONYMOUS}))
        raise NotAccepted("there is none")

    async def _check_again(self, token: str, sources: Sequence[Any]) -> Known:
        return self._tokens.check(token, self._now_ms())

    def _later(self, find_out: Callable[[], Awaitable[Known]], arrival: Arrival, done: Done) -> None:
        if self._nursery is None or self._waiting >= self._config.limits.max_waiting_credentials:
            done(self._refusal(NotKnown("too many wait already"), arrival))
            return
        self._waiting += 1
        self._nursery.start_soon(self._answer, find_out, arrival, done)

    async def _answer(self, find_out: Callable[[], Awaitable[Known]], arrival: Arrival, done: Done) -> None:
        try:
            answer: Answer = self._rules.identity(await find_out())
        except Exception as error:  # noqa: BLE001  # S1: the barrier of this task
            answer = self._refusal(error, arrival)
        finally:
            self._waiting -= 1
        done(answer)
        self._flush()

    def _refusal(self, error: Exception, arrival: Arrival) -> Refused:
        """What the client is told; the log is told why."""
        match error:
            case NotAccepted():
                self._refusals.tell(error.reason, arrival.address)
                return Refused(error.name, _TOLD[error.name])
            case NotKnown():
                self._refusals.tell(error.reason, arrival.address)
                after_ms = error.retry_after_ms or _RETRY_MS
                return Refused(ErrorName.UNAVAILABLE, "credentials cannot be checked now", retry_after_ms=after_ms)
            case _:  # a bug; its text may hold anything, so only its kind is told
                self._log.error("credential_check_failed", kind=type(error).__name__, address=arrival.address)
                return Refused(
                    ErrorName.UNAVAILABLE, "credentials cannot be checked now", retry_after_ms=_RETRY_MS
                )
