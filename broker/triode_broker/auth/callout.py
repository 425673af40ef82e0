"""The auth callout: the operator's own endpoint is asked who the bearer of a credential is.

Knows the question and the answer; HTTP is `asking`'s. The surprising decision: whatever is no clear yes (200 with
an answer that is right in every field) and no clear no (401, 403) is "not known", and lets nobody in: fail closed.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import attrs
import msgspec
import trio
from triode_protocol.errors import ErrorName

from triode_broker.auth.asking import Ask, NoReply, Reply
from triode_broker.auth.breaker import Breaker
from triode_broker.auth.grants import BadGrants, parse_grants
from triode_broker.auth.known import Known, NotAccepted, NotKnown, check_limits, check_name, check_tenant
from triode_broker.auth.strict_json import BadJson, parse_object
from triode_broker.config import MAX_INTEGER, Auth, Limits
from triode_broker.core.identity import Arrival

_DENIED: Final = (401, 403)


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the endpoint says of a bearer; a field that is not known is a mistake, and might have been a denial."""

    user: str
    tenant: str = ""
    roles: tuple[str, ...] = ()
    permissions: dict[str, Any] = {}  # as the claim of a token
    claims: dict[str, str | int] = {}  # for placeholders
    limits: dict[str, Any] = {}  # as the claim of a token
    token_id: str = ""
    expires_in_ms: int = 0  # from now; 0 = it does not say
    expires_at_ms: int = 0  # wall clock; 0 = it does not say


@attrs.define(eq=False)
class _Asked:
    """One question that is under way, for all who have the same."""

    is_over: trio.Event = attrs.field(factory=trio.Event)
    outcome: Known | NotAccepted | NotKnown = attrs.field(factory=lambda: NotKnown("the callout was given up"))


class Callout:
    """Asks `auth.callout_url`. `now_ms`: the wall clock; `steady`: seconds that only go forward."""

    def __init__(
        self,
        auth: Auth,
        limits: Limits,
        secret: str,
        ask: Ask,
        log: Any,
        now_ms: Callable[[], int],
        steady: Callable[[], float] = trio.current_time,
    ) -> None:
        self._auth = auth
        self._limits = limits
        self._headers = {"content-type": "application/json"} | (
            {"authorization": f"Bearer {secret}"} if secret else {}
        )
        self._ask = ask
        self._log = log
        self._now_ms = now_ms
        self._breaker = Breaker(auth.callout_failures, auth.callout_pause_ms / 1000, steady)
        self._slots = trio.Semaphore(limits.max_callouts)
        self._reason = ""  # of the last failure
        self._under_way: dict[bytes, _Asked] = {}
        # By what was asked, never by the token itself (S10): who it is, and until when that may be said again.
        self._cache: OrderedDict[bytes, tuple[Known, int]] = OrderedDict()

    @property
    def trouble(self) -> str:
        """Why it is left alone, for health; "" while it is not."""
        return f"the callout is left alone, its last failure: {self._reason}" if self._breaker.is_open else ""

    def cached(self, token: str, arrival: Arrival) -> Known | None:
        """Who it is, where that was asked a short while ago."""
        question = _fingerprint(token, arrival)
        known, until_ms = self._cache.get(question, (None, 0))
        if known is not None and self._now_ms() >= until_ms:
            del self._cache[question]
            return None
        return known

    async def find_out(self, token: str, arrival: Arrival) -> Known:
        """Who it is. Raises NotAccepted, NotKnown. Whoever asks the same meanwhile gets the same answer."""
        question = _fingerprint(token, arrival)
        asked = self._under_way.get(question)
        if asked is None:
            asked = self._under_way[question] = _Asked()
            try:
                await self._settle(asked, question, token, arrival)
            finally:
                del self._under_way[question]
                asked.is_over.set()
        else:
            await asked.is_over.wait()
        if isinstance(asked.outcome, Known):
            return asked.outcome
        raise asked.outcome

    async def _settle(self, asked: _Asked, question: bytes, token: str, arrival: Arrival) -> None:
        try:
            async with self._slots:
                asked.outcome = known = await self._once(token, arrival)
        except (NotAccepted, NotKnown) as error:
            asked.outcome = error
        else:
            self._keep(question, known)

    async def _once(self, token: str, arrival: Arrival) -> Known:
        if left := self._breaker.left():
            raise NotKnown("the callout has failed several times, and is left alone", int(left * 1000))
        asked_ms = self._now_ms()  # who was revoked since was known before
        try:
            reply = await self._ask(
                self._auth.callout_url,
                body=_body(token, arrival),
                headers=self._headers,
                max_bytes=self._limits.max_callout_bytes,
                timeout_seconds=self._auth.callout_timeout_ms / 1000,
            )
            answer = None if reply.status in _DENIED else self._read(reply, asked_ms)
        except NoReply as error:
            self._failed(str(error))
            raise NotKnown(f"the callout failed: {error}") from None
        except BaseException as error:
            self._reason = f"a fault of ours: {type(error).__name__}"
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        if answer is None:
            raise NotAccepted("the callout does not know it")
        if answer.expires_ms and answer.expires_ms <= self._now_ms():
            raise NotAccepted("it has expired, says the callout", ErrorName.TOKEN_EXPIRED)
        return answer

    def _failed(self, reason: str) -> None:
        self._reason, was_open = reason, self._breaker.is_open
        self._breaker.failed()
        self._log.warning("callout_failed", reason=reason, url=self._auth.callout_url)
        if self._breaker.is_open and not was_open:
            self._log.error("callout_left_alone", url=self._auth.callout_url, ms=self._auth.callout_pause_ms)

    def _read(self, reply: Reply, asked_ms: int) -> Known:
        """What it says. Raises NoReply where that is not right: one wrong field may be the one that denied."""
        if reply.status != 200:
            raise NoReply(f"answered {reply.status}")
        try:
            answer = msgspec.convert(parse_object(reply.body), Answer)
            return Known(
                user=check_name(answer.user, "its user"),
                method="callout",
                tenant=check_tenant(answer.tenant, "its tenant") if answer.tenant else "",
                roles=frozenset(check_name(role, "one of its roles") for role in answer.roles),
                values=answer.claims,
                grants=parse_grants(answer.permissions),
                limits=check_limits(answer.limits, "its limits"),
                expires_ms=self._expires_ms(answer),
                issued_ms=asked_ms,
                token_id=check_name(answer.token_id, "its token_id") if answer.token_id else "",
            )
        except msgspec.ValidationError as error:
            raise NoReply(f"the answer is not of the form that is documented{_at(error)}") from None
        except (BadJson, BadGrants, NotAccepted) as error:
            raise NoReply(f"the answer is wrong: {error}") from None

    def _expires_ms(self, answer: Answer) -> int:
        """The earliest of what it says and what `max_token_seconds` allows."""
        said = (answer.expires_in_ms, answer.expires_at_ms)
        if not all(0 <= ms <= MAX_INTEGER for ms in said):
            raise NotAccepted("its expiry is not a time")
        now_ms, most_ms = self._now_ms(), self._auth.max_token_seconds * 1000
        ends = [
            answer.expires_at_ms,
            now_ms + answer.expires_in_ms if answer.expires_in_ms else 0,
            now_ms + most_ms if most_ms else 0,
        ]
        return min(filter(None, ends), default=0)

    def _keep(self, question: bytes, known: Known) -> None:
        until_ms = self._now_ms() + self._auth.callout_cache_seconds * 1000
        if known.expires_ms:
            until_ms = min(until_ms, known.expires_ms)
        self._cache[question] = (known, until_ms)
        self._cache.move_to_end(question)
        if len(self._cache) > self._limits.max_callout_cache:
            self._cache.popitem(last=False)


def _at(error: msgspec.ValidationError) -> str:
    """Which field it is about, by a name of ours; all else in the text may be what was answered (S10)."""
    text = str(error)
    if "unknown field" in text:
        return ": a field that is not known"
    found = next((name for name in Answer.__struct_fields__ if re.search(rf"`(\$\.)?{name}\b", text)), None)
    return f": {found}" if found else ""


def _fingerprint(token: str, arrival: Arrival) -> bytes:
    """Of all that is asked, so that an answer for one address is none for another."""
    return hashlib.sha256(_body(token, arrival)).digest()


def _body(token: str, arrival: Arrival) -> bytes:
    try:
        return msgspec.json.encode(
            {
                "token": token,
                "address": arrival.address,
                "certificate": arrival.certificate,
                "is_encrypted": arrival.is_encrypted,
            }
        )
    except UnicodeEncodeError:  # half a surrogate pair
        raise NotAccepted("it is not text") from None
