"""Reloading: who may connect and what they may do are read again while the broker serves (SIGHUP).

A part of the composition root. The surprising decision: all or nothing. What cannot be used changes nothing and
the log says why; and settings that are not about credentials and rules, or that would open a closed broker, wait
for the next start (S14).
"""

from collections.abc import Callable
from typing import Any, Final

import attrs
from msgspec.structs import fields, replace

from triode_broker.auth.authority import Authority
from triode_broker.auth.static_keys import BadCredentials
from triode_broker.config import Config
from triode_broker.core.node import Node
from triode_broker.posture import is_open

#: What is taken from settings that were read again.
RELOADED: Final = frozenset({"auth", "tokens", "permissions"})
#: What of `auth` is not.
AT_START: Final = ("query_token", "notice_seconds", "jwks_refresh_seconds", "jwks_stale_seconds")


@attrs.define(eq=False)
class Reloading:
    """One node's; `authority` is None where nobody is asked who they are."""

    config: Config  # in force
    node: Node
    authority: Authority | None
    log: Any
    renew: Callable[[], None]  # certificates are read again whatever becomes of the settings

    def read_again(self, reread: Callable[[], Config] | None) -> None:
        """What `reread` reads; it raises ValueError where that cannot be used. None: another process reads."""
        self.renew()
        if reread is None:
            return
        try:
            config = reread()
        except ValueError as error:
            self.log.error("settings_not_reloaded", reason=str(error))
        else:
            self.reload(config)

    def reload(self, config: Config) -> None:
        """Have these settings' credentials and rules in force from now on, for those who are connected too."""
        if self.authority is None or is_open(config):
            if self.authority is not None or not is_open(config):
                reason = "whether clients need a credential is decided at the start: restart the broker"
                self.log.error("settings_not_reloaded", reason=reason)
            return
        try:
            self.authority.reload(config)
        except BadCredentials as error:
            self.log.error("settings_not_reloaded", setting=error.setting, reason=error.wrong)
            return
        names = [field.name for field in fields(config) if field.name not in RELOADED]
        waiting = [name for name in names if getattr(config, name) != getattr(self.config, name)]
        kept = {name: getattr(self.config.auth, name) for name in AT_START}
        waiting += [f"auth.{name}" for name in AT_START if getattr(config.auth, name) != kept[name]]
        auth = replace(config.auth, **kept)
        self.config = replace(self.config, auth=auth, tokens=config.tokens, permissions=config.permissions)
        self.node.judge_all(self.authority.judge)
        self.log.info("settings_reloaded", need_a_restart=waiting)
