"""Revocations: whose credentials are not good any more, whatever they say of themselves (G10, S19). Pure.

Knows identities, no clients, no files and no nodes. Three questions at most decide about one: its user, its token
id, its key. The surprising decision: what is taken back stays as an entry of its own, newer than what it takes
back. So two tables become one by keeping the newest of each, in whatever order and however often they meet.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from triode_broker.core.identity import Identity

Kind = Literal["user", "token", "key"]
MAX_VALUE_CHARACTERS: Final = 1_024
#: So long is remembered that something for ever was taken back: a node that was away for longer brings it again.
LIFTED_MS: Final = 30 * 86_400_000
#: What others have revoked is taken beyond `max_revocations`: refused, it would be in force here and not there.
#: But not without end.
MOST_OF_OTHERS: Final = 8

Value = Annotated[str, Meta(max_length=MAX_VALUE_CHARACTERS)]
Ms = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Key = tuple[Kind, str, str]


class Revocation(Struct, frozen=True):
    """One: of a user of a tenant, of a token by its id, of an API key. New fields only with a default."""

    kind: Kind
    value: Value
    at_ms: Ms  # wall clock; of a user: credentials that were issued until then, or do not say when
    until_ms: Ms  # then it is forgotten; 0 = never
    tenant: Value = ""  # of a user; tokens and keys are found by themselves
    also_new: bool = False  # of a user: those issued later, too
    is_lifted: bool = False  # taken back: nothing is refused by it

    @property
    def key(self) -> Key:
        """What it is about."""
        return self.kind, self.tenant, self.value

    def is_over(self, now_ms: int) -> bool:
        """Whether its time has passed."""
        return 0 < self.until_ms <= now_ms

    def refuses(self, identity: Identity) -> bool:
        """Whether that is not let in by it, who is known to be whom it is about."""
        if self.is_lifted:
            return False
        return self.kind != "user" or self.also_new or identity.issued_ms <= self.at_ms

    def is_about(self, identity: Identity) -> bool:
        """Whether it is this one's user, token or key."""
        return self.key in _keys(identity)


class TooMany(Exception):
    """There is no room for one more; `str()` says what to do, to an operator."""


class Revocations:
    """All that a node knows of."""

    __slots__ = ("_by_key", "most")

    def __init__(self, most: int) -> None:
        self.most = most  # max_revocations
        self._by_key: dict[Key, Revocation] = {}

    def __len__(self) -> int:
        """Those included that were taken back."""
        return len(self._by_key)

    def check(self, identity: Identity, now_ms: int) -> Refused | None:
        """Why somebody is not let in, or None."""
        if not self._by_key:
            return None
        for key in _keys(identity):
            found = self._by_key.get(key)
            if found is not None and not found.is_over(now_ms) and found.refuses(identity):
                return Refused(ErrorName.REVOKED, f"this {_WORDS[found.kind]} was revoked")
        return None

    def add(self, wanted: Revocation) -> Revocation:
        """Revoke; `at_ms` says now. Returns what is in force: never less than what was before.

        Raises TooMany.
        """
        now_ms = wanted.at_ms
        known = self._by_key.get(wanted.key)
        if known is not None:
            wanted = replace(wanted, at_ms=max(now_ms, known.at_ms + 1))
            if not known.is_lifted and not known.is_over(now_ms):
                until_ms = wanted.until_ms and known.until_ms and max(wanted.until_ms, known.until_ms)
                wanted = replace(wanted, until_ms=until_ms, also_new=wanted.also_new or known.also_new)
        self.forget(now_ms)
        if wanted.key not in self._by_key and len(self._by_key) >= self.most:
            message = f"{len(self._by_key)} revocations are kept, and limits.max_revocations allows no more"
            raise TooMany(f"{message}: unrevoke some, or raise it and reload")
        self._by_key[wanted.key] = wanted
        return wanted

    def lift(self, key: Key, now_ms: int) -> Revocation | None:
        """Take back what is in force; None: nothing is."""
        known = self._by_key.get(key)
        if known is None or known.is_lifted or known.is_over(now_ms):
            return None
        at_ms = max(now_ms, known.at_ms + 1)
        lifted = replace(known, at_ms=at_ms, until_ms=known.until_ms or at_ms + LIFTED_MS, is_lifted=True)
        self._by_key[key] = lifted
        return lifted

    def merge(self, entries: Iterable[Revocation], now_ms: int) -> list[Revocation]:
        """Take what another node, or a file, knows; returns what is news. Raises TooMany, having taken nothing.

        What is over is no news: it would go from node to node for ever.
        """
        self.forget(now_ms)
        news: dict[Key, Revocation] = {}
        for entry in entries:
            known = news.get(entry.key) or self._by_key.get(entry.key)
            if not entry.is_over(now_ms) and (known is None or _age(entry) > _age(known)):
                news[entry.key] = entry
        if len(self._by_key | news) > self.most * MOST_OF_OTHERS:
            raise TooMany(
                f"another node has so many revocations that more than {self.most} × {MOST_OF_OTHERS} meet"
            )
        self._by_key |= news
        return list(news.values())

    def forget(self, now_ms: int) -> None:
        """Drop what is over."""
        for key in [key for key, entry in self._by_key.items() if entry.is_over(now_ms)]:
            del self._by_key[key]

    def all(self) -> list[Revocation]:
        """Everything, what was taken back included, in order of what it is about."""
        return [self._by_key[key] for key in sorted(self._by_key)]

    def in_force(self, now_ms: int) -> list[Revocation]:
        """What refuses somebody, in the same order."""
        return [entry for entry in self.all() if not entry.is_lifted and not entry.is_over(now_ms)]


_WORDS: Final[dict[Kind, str]] = {"user": "user", "token": "token", "key": "API key"}


def _keys(identity: Identity) -> list[Key]:
    """What may be revoked of it; who has no name is nobody's."""
    keys: list[Key] = []
    if identity.user:
        keys.append(("user", identity.tenant, identity.user))
    if identity.token_id:
        keys.append(("token", "", identity.token_id))
    if identity.key:
        keys.append(("key", "", identity.key))
    return keys


def _age(entry: Revocation) -> tuple[int, bool, bool, float]:
    """The greater one counts; of two of one moment the one that refuses more."""
    return entry.at_ms, not entry.is_lifted, entry.also_new, entry.until_ms or float("inf")
