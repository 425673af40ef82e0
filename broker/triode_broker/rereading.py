"""Rereading: what of settings that were read again is taken, and what waits for the next start.

Knows two finished `Config`s, and nothing of who takes them. The surprising decision: what is not known to be taken
waits. So a setting that is new in this program waits too, until somebody has thought about it (S14).
"""

from typing import Final

from msgspec.structs import fields, replace

from triode_broker.config import Config

#: What is taken.
RELOADED: Final = frozenset({"auth", "tokens", "permissions"})
#: What of `auth` is not.
AT_START: Final = ("query_token", "notice_seconds", "jwks_refresh_seconds", "jwks_stale_seconds")


def need_a_restart(in_force: Config, read: Config) -> list[str]:
    """The names of settings that are others now, and wait."""
    names = [field.name for field in fields(Config) if field.name not in RELOADED]
    waiting = [name for name in names if getattr(read, name) != getattr(in_force, name)]
    return waiting + [f"auth.{name}" for name in AT_START if _differ(in_force, read, name)]


def _differ(one: Config, other: Config, name: str) -> bool:
    return bool(getattr(one.auth, name) != getattr(other.auth, name))


def taken(in_force: Config, read: Config) -> Config:
    """What is in force once `read` was taken."""
    auth = replace(read.auth, **{name: getattr(in_force.auth, name) for name in AT_START})
    return replace(in_force, auth=auth, tokens=read.tokens, permissions=read.permissions)
