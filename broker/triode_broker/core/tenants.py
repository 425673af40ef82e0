"""Tenants: the names of one tenant's topics, filters, durable subscriptions and groups inside the broker. Pure.

Clients know only their own names. Inside, a topic of tenant `acme` is `$t:acme/rooms/42`, its dead letters are
`$dead:acme/billing` and a name is `$acme:billing`; those of the tenant "" are what clients say. The surprising
decision: nothing that matches, stores or sends knows of tenants. Wildcards never match a first level that begins
with `$`, so every filter keeps within its tenant by the grammar alone, in memory, on disk and between nodes.

This holds only while no client can say such a name itself: `check_own` at the door.
"""

import re
from typing import Final

from triode_protocol.topics import BadTopic, is_reserved, is_wildcard

#: The first level of a tenant's plain topics begins with it.
PREFIX: Final = "$t:"
_LEVEL: Final = PREFIX[:-1]
#: What a tenant may be called, beside "": nothing that could end the level, or the tenant, before its time.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


def is_tenant(name: str) -> bool:
    """Whether a tenant may be called that; "" is the default one."""
    return not name or _NAME.fullmatch(name) is not None


def check_own(text: str) -> None:
    """Raise BadTopic for a client's topic or filter, whole or not, that could be a name inside."""
    if text[:1] == "$":
        level = text.partition("/")[0]
        if ":" in level or level == _LEVEL:
            raise BadTopic(f"a first level with $ has no colon and is not {_LEVEL}")


def inside(tenant: str, own: str) -> str:
    """A client's checked topic or filter, as the core knows it."""
    if not tenant:
        return own
    if not is_reserved(own):
        return f"{PREFIX}{tenant}/{own}"
    level, slash, rest = own.partition("/")
    return f"{level}:{tenant}{slash}{rest}"


def outside(topic: str) -> str:
    """A topic or filter of the core, as clients of its tenant know it; "" for what is none."""
    if topic[:1] != "$":
        return topic
    level, slash, rest = topic.partition("/")
    kind, colon, _ = level.partition(":")
    if not colon:
        return topic
    return rest if kind == _LEVEL else kind + slash + rest


def only_topic(filter: str) -> str:
    """What clients call the one topic that a filter of the core matches; "" where it may match more."""
    return "" if is_wildcard(filter) else outside(filter)


def tenant_of(topic: str) -> str:
    """Whose topic or filter of the core it is."""
    return topic.partition("/")[0].partition(":")[2] if topic[:1] == "$" else ""


def is_own(topic: str) -> bool:
    """Whether a topic or filter of the core is the broker's own (SPEC 6.4), of whatever tenant."""
    return is_reserved(topic) and not topic.startswith(PREFIX)


def name_inside(tenant: str, own: str) -> str:
    """A client's checked name of a durable subscription or group, as the core knows it."""
    return f"${tenant}:{own}" if tenant else own


def name_outside(name: str) -> str:
    """A name of the core, as clients of its tenant know it."""
    return name.partition(":")[2] if name[:1] == "$" else name


def tenant_of_name(name: str) -> str:
    """Whose name of the core it is."""
    return name[1:].partition(":")[0] if name[:1] == "$" else ""
