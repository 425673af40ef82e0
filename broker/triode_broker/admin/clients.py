"""Administration of clients: who is connected, send them away, withdraw what they come in with.

Checks parameters and says what happened as plain data; what it does to clients is the `Bouncer`'s business. The
surprising decision: to revoke a connection is to revoke the credential that it came in with. A connection is gone
once it is closed, and its number never comes again; what has to be kept out is what it showed at the door.
"""

import heapq
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import attrs
import trio
from triode_protocol.errors import CloseCode

from triode_broker.admin.listener import BadCall, Call, Missing
from triode_broker.admin.parameters import count_in, flag_in
from triode_broker.core.node import Node
from triode_broker.core.revocations import MAX_VALUE_CHARACTERS, Key, Kind, Revocation, TooMany
from triode_broker.core.session import Session

MAX_LISTED: Final = 1_000  # connections in one answer
DEFAULT_LISTED: Final = 100
LOOKED_AT_PER_TURN: Final = 2_000
MAX_SECONDS: Final = 10 * 365 * 86_400

#: What names whom a call is about, by parameter.
_WHOM: Final = ("user", "tenant", "token", "key", "connection", "address")


class Bouncer(Protocol):
    """Who puts it into effect on this node."""

    @property
    def kept(self) -> str:
        """Where revocations are kept: "disk", "memory" or "failed"."""

    async def revoke(self, wanted: Revocation) -> tuple[Revocation, int]:
        """Returns what is in force and how many were sent away. Raises TooMany."""

    async def lift(self, key: Key) -> Revocation | None:
        """Take one back; None: it is not in force here."""

    async def kick(self, is_meant: Callable[[Session], bool], code: CloseCode) -> int:
        """Returns how many were sent away."""


@attrs.frozen
class Whom:
    """Whom a call is about: everybody of whom all of it is true; what is not given is true of all."""

    user: str | None = None
    tenant: str | None = None
    token: str | None = None
    key: str | None = None
    connection: str | None = None
    address: str | None = None

    def is_meant(self, session: Session) -> bool:
        """Whether it is this one."""
        identity = session.identity
        return (
            self.user in (None, identity.user)
            and self.tenant in (None, identity.tenant)
            and self.token in (None, identity.token_id)
            and self.key in (None, identity.key)
            and self.connection in (None, session.connection_id)
            and self.address in (None, session.address)
        )


@attrs.define(eq=False)
class Clients:
    """The calls, as far as this node goes."""

    node: Node
    bouncer: Bouncer
    now_ms: Callable[[], int]
    token_seconds: Callable[[], int]  # no token is good for longer, as things are set now; 0 = for ever

    def calls(self) -> dict[str, Call]:
        """By name."""
        return {
            "connections": self.connections,
            "kick": self.kick,
            "revoke": self.revoke,
            "unrevoke": self.unrevoke,
            "revocations": self.revocations,
        }

    async def connections(self, parameters: Mapping[str, Any]) -> object:
        """Who is connected: those behind `after` in order of their ids, and whether there are more."""
        whom = whom_of(parameters, *_WHOM)
        limit, after = count_in(parameters, "limit", DEFAULT_LISTED, MAX_LISTED), parameters.get("after", "")
        if not isinstance(after, str):
            raise BadCall("after is the id of a connection")
        found = await self._find(whom, after)
        chosen = heapq.nsmallest(limit, found, key=lambda session: session.connection_id)
        listed = [shown(session, self.node.name) for session in chosen]
        return {"connections": listed, "more": len(found) > limit}

    async def _find(self, whom: Whom, after: str) -> list[Session]:
        if whom.connection is not None:
            one = self.node.sessions.get(whom.connection)
            return [one] if one is not None and whom.is_meant(one) else []
        found: list[Session] = []
        everybody = list(self.node.sessions.values())
        for start in range(0, len(everybody), LOOKED_AT_PER_TURN):
            some = everybody[start : start + LOOKED_AT_PER_TURN]
            found += [one for one in some if one.connection_id > after and whom.is_meant(one)]
            await trio.lowlevel.checkpoint()
        return found

    async def kick(self, parameters: Mapping[str, Any]) -> object:
        """Send clients away. They may come again: at once, if they are told so (`come_back`)."""
        whom = whom_of(parameters, *_WHOM)
        if whom == Whom():
            raise BadCall("kick whom? user, tenant, token, key, connection or address")
        code = CloseCode.SENT_AWAY if flag_in(parameters, "come_back") else CloseCode.KICKED
        return {"closed": await self.bouncer.kick(whom.is_meant, code)}

    async def revoke(self, parameters: Mapping[str, Any]) -> object:
        """Withdraw a credential, or those of a user, and send away who came in with it."""
        kind, value, tenant = target_of(parameters)
        now_ms = self.now_ms()
        also_new = flag_in(parameters, "also_new")
        if also_new and kind != "user":
            raise BadCall("also_new is of a user: there is no newer one of a token or a key")
        until_ms = self._until_ms(parameters.get("seconds"), kind, now_ms)
        try:
            entry, closed = await self.bouncer.revoke(Revocation(kind, value, now_ms, until_ms, tenant, also_new))
        except TooMany as error:
            raise BadCall(str(error)) from None
        return {"revoked": as_data(entry), "closed": closed, "kept": self.bouncer.kept}

    def _until_ms(self, seconds: object, kind: Kind, now_ms: int) -> int:
        """0: for ever. A key does not end by itself, so neither does its revocation."""
        if seconds is None:
            seconds = 0 if kind == "key" else self.token_seconds()
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= MAX_SECONDS:
            raise BadCall(f"seconds: a number from 0 (for ever) to {MAX_SECONDS}")
        return now_ms + int(seconds * 1000) if seconds else 0

    async def unrevoke(self, parameters: Mapping[str, Any]) -> object:
        """Let in again whom a revocation refuses."""
        kind, value, tenant = target_of(parameters)
        entry = await self.bouncer.lift((kind, tenant, value))
        if entry is None:
            where = f" of tenant {tenant}" if tenant else ""
            raise Missing(f"{kind} {value}{where} is not revoked: `triode revocations` lists what is")
        return {"unrevoked": as_data(entry), "kept": self.bouncer.kept}

    async def revocations(self, parameters: Mapping[str, Any]) -> object:
        """What is in force; of a tenant, what is about its users."""
        entries = self.node.revocations.in_force(self.now_ms())
        whom = whom_of(parameters, "tenant")
        if whom.tenant is not None:
            entries = [entry for entry in entries if entry.kind == "user" and entry.tenant == whom.tenant]
        return {"revocations": [as_data(entry) for entry in entries], "kept": self.bouncer.kept}


def whom_of(parameters: Mapping[str, Any], *allowed: str, also_nameless: bool = False) -> Whom:
    """Raises BadCall. Nobody is named by nothing: "" is what an unset variable of a shell is.

    `also_nameless`: the user "" is whoever has no name; for calls that only look.
    """
    given = {name: parameters[name] for name in allowed if parameters.get(name) is not None}
    for name, value in given.items():
        least = 0 if also_nameless and name == "user" else 1
        if not isinstance(value, str) or not least <= len(value) <= MAX_VALUE_CHARACTERS:
            raise BadCall(f"{name}: a text of {least} to {MAX_VALUE_CHARACTERS} characters")
    if "user" in given and "tenant" in allowed:
        given.setdefault("tenant", "")
    return Whom(**given)


def target_of(parameters: Mapping[str, Any]) -> tuple[Kind, str, str]:
    """What is to be revoked, and of a user its tenant. Raises BadCall."""
    whom = whom_of(parameters, "user", "tenant", "token", "key")
    kinds: dict[Kind, str | None] = {"user": whom.user, "token": whom.token, "key": whom.key}
    named: list[tuple[Kind, str]] = [(kind, value) for kind, value in kinds.items() if value is not None]
    if len(named) != 1:
        raise BadCall("revoke what? one of user, token and key")
    ((kind, value),) = named
    if kind != "user" and whom.tenant is not None:
        raise BadCall("tenant goes with a user: tokens and keys are found by themselves")
    return kind, value, whom.tenant or ""


def shown(session: Session, node: str) -> dict[str, object]:
    """A connection for an operator's eyes; nothing in it lets anybody in."""
    identity = session.identity
    facts = {
        "connection": session.connection_id,
        "node": node,
        "address": session.address,
        "since_ms": session.since_ms,
        "user": identity.user,
        "tenant": identity.tenant,
        "method": identity.method,
        "token": identity.token_id,
        "key": identity.key,
        "issued_ms": identity.issued_ms,
        "expires_ms": identity.expires_ms,
        "subscriptions": session.subscription_count,
        "refused": session.meter.refused,  # packets, for its rates
    }
    return facts


def as_data(entry: Revocation) -> dict[str, object]:
    """One entry as plain data; until_ms 0: for ever."""
    return {
        "kind": entry.kind,
        "value": entry.value,
        "tenant": entry.tenant,
        "at_ms": entry.at_ms,
        "until_ms": entry.until_ms,
        "also_new": entry.also_new,
    }
