"""Reloading: who may connect and what they may do are read again while the broker serves (SIGHUP).

A part of the composition root. The surprising decision: all or nothing. What cannot be used changes nothing; and
settings that are not about credentials and rules, or that would open a closed broker, wait for the next start
(S14). Both are said in the log, once, and in health until settings were read that can be used: whoever believes
that a right was taken away finds out that it was not.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from triode_broker.auth.authority import Authority
from triode_broker.auth.static_keys import BadCredentials
from triode_broker.config import Config
from triode_broker.core.node import Node
from triode_broker.posture import is_open
from triode_broker.printable import escape, shorten
from triode_broker.rereading import need_a_restart, taken

_MAX_SHOWN: Final = 500  # characters of a reason, in health
_AT_THE_START: Final = "whether clients need a credential is decided at the start: restart the broker"


@attrs.define(eq=False)
class Reloading:
    """One node's; `authority` is None where nobody is asked who they are."""

    config: Config  # in force
    node: Node
    authority: Authority | None
    log: Any
    renew: Callable[[], None]  # certificates are read again whatever becomes of the settings
    failure: str = ""  # why the settings that were read last are not in force; "" while they are
    need_a_restart: list[str] = attrs.field(factory=list)  # those of them that wait

    def degraded(self) -> list[str]:
        """For health."""
        return [f"the settings could not be read again: {self.failure}"] if self.failure else []

    def report(self) -> dict[str, object]:
        """For health."""
        return {"not_reloaded": self.failure, "need_a_restart": self.need_a_restart}

    def read_again(self, reread: Callable[[], Config] | None) -> None:
        """What `reread` reads; it raises ValueError where that cannot be used. None: another process reads."""
        self.renew()
        if reread is None:
            return
        try:
            config = reread()
        except ValueError as error:
            self.log.error("settings_not_reloaded", reason=str(error))
            self.failed(str(error))
        else:
            self.reload(config)

    def failed(self, reason: str) -> None:
        """They could not be used, which the log has been told."""
        self.failure = shorten(escape(" ".join(reason.split())), _MAX_SHOWN)

    def reload(self, config: Config, waiting: Sequence[str] = ()) -> None:
        """Have these settings' credentials and rules in force from now on, for those who are connected too.

        `waiting`: settings that wait for a restart, as somebody else has found.
        """
        if is_open(config) != (self.authority is None):
            self._refuse(reason=_AT_THE_START)
            return
        if self.authority is not None:
            try:
                self.authority.reload(config)
            except BadCredentials as error:
                self._refuse(setting=error.setting, reason=error.wrong)
                return
        self.failure = ""
        self.need_a_restart = [*waiting, *need_a_restart(self.config, config)]
        self.config = taken(self.config, config)
        if self.authority is not None:
            self.node.judge_all(self.authority.judge)
        say = self.log.warning if self.need_a_restart else self.log.info
        say("settings_reloaded", need_a_restart=self.need_a_restart)

    def _refuse(self, **why: str) -> None:
        self.log.error("settings_not_reloaded", **why)
        self.failed(": ".join(why.values()))
