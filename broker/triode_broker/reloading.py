"""Reloading: settings are read again while the broker serves (SIGHUP, `triode reload`, HTTP).

A part of the composition root. The surprising decision: all or nothing, in two steps. Every part prepares what it
needs for the new settings and may refuse; only when none has, all commit, in one turn of the loop and without a
wait between. So what cannot be used changes nothing anywhere (S14). Settings that cannot change while the broker
runs wait for the next start and are named. Both are said in the answer, in the log and in health until settings
were read that can be used: whoever believes that a right was taken away finds out that it was not.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import attrs
from msgspec.structs import replace

from triode_broker.config import Config
from triode_broker.config.effects import follow
from triode_broker.posture import is_open
from triode_broker.printable import escape, shorten
from triode_broker.rereading import changed, need_a_restart, taken, why_it_waits

_MAX_SHOWN: Final = 500  # characters of a reason, in health
_AT_THE_START: Final = "whether clients need a credential is decided at the start: restart the broker"

#: Has a prepared change come into force; must not raise, nor wait.
Commit = Callable[[], None]
#: Of one part: the settings in force and those that are to be → what is to be done, None: nothing. Changes nothing
#: yet, and raises NotTaken where it cannot use them.
Prepare = Callable[[Config, Config], Commit | None]


class NotTaken(Exception):
    """Why settings cannot come into force: `setting` is its name, `wrong` ends a sentence begun with it."""

    def __init__(self, setting: str, wrong: str) -> None:
        super().__init__(f"{setting}: {wrong}")
        self.setting = setting
        self.wrong = wrong


@attrs.define(eq=False)
class Reloading:
    """One node's; `config.limits` is the one object that all parts of the node hold."""

    config: Config  # in force
    log: Any
    renew: Callable[[], None]  # certificates are read again whatever becomes of the settings
    digest_of: Callable[[Config], str]
    parts: dict[str, Prepare] = attrs.field(factory=dict)  # by name, in the order in which they commit
    reread: Callable[[], Config] | None = (
        None  # the settings; ValueError: what is wrong. None: there are none to read
    )
    ask_parent: Callable[[], Awaitable[None]] | None = (
        None  # another process reads: returns when this one was told
    )
    serial: int = 0  # rises with each reload that came into force
    failure: str = ""  # why the settings that were read last are not in force; "" while they are
    changed: list[str] = attrs.field(factory=list)  # by the last reload that came into force
    need_a_restart: list[str] = attrs.field(factory=list)  # settings that were read and wait
    digest: str = ""  # of what is in force, to be compared with other nodes'

    def __attrs_post_init__(self) -> None:
        self.digest = self.digest_of(self.config)

    def degraded(self) -> list[str]:
        """For health."""
        return [f"the settings could not be read again: {self.failure}"] if self.failure else []

    def report(self) -> dict[str, object]:
        """For health."""
        return {"not_reloaded": self.failure, "need_a_restart": self.need_a_restart, "digest": self.digest}

    async def again(self) -> dict[str, object]:
        """Have the settings read again, wherever that is done; what came of it."""
        if self.ask_parent is not None:
            await self.ask_parent()
        elif self.reread is None:
            self.failed("this broker was not started from settings that could be read again")
        else:
            self.read_again()
        return {
            "reloaded": not self.failure,
            "reason": self.failure,
            "changed": [] if self.failure else self.changed,
            "need_a_restart": self.need_a_restart,
            "digest": self.digest,
        }

    def read_again(self) -> None:
        """What `reread` reads."""
        self.renew()
        if self.reread is None:
            return
        try:
            config = self.reread()
        except ValueError as error:
            self.log.error("settings_not_reloaded", reason=str(error))
            self.failed(str(error))
        else:
            self.reload(config)

    def failed(self, reason: str) -> None:
        """They could not be used, which the log has been told."""
        self.failure = shorten(escape(" ".join(reason.split())), _MAX_SHOWN)

    def reload(self, config: Config, waiting: Sequence[str] = ()) -> None:
        """Have these settings in force from now on, as far as they can be, for those who are connected too.

        `waiting`: settings that wait for a restart, as somebody else has found.
        """
        in_force = self.config
        if is_open(config) != is_open(in_force):
            self._refuse(reason=_AT_THE_START)
            return
        wanted = taken(in_force, config)
        try:
            prepared = [(name, prepare(in_force, wanted)) for name, prepare in self.parts.items()]
        except NotTaken as error:
            self._refuse(setting=error.setting, reason=error.wrong)
            return
        self.failure = ""
        self.need_a_restart = list(dict.fromkeys([*waiting, *need_a_restart(in_force, config)]))
        self.changed = changed(in_force, wanted)
        why = why_it_waits(in_force, config)
        self._commit(wanted, {name: commit for name, commit in prepared if commit is not None})
        say = self.log.warning if self.need_a_restart else self.log.info
        say("settings_reloaded", changed=self.changed, need_a_restart=self.need_a_restart, why=why)

    def _commit(self, wanted: Config, commits: Mapping[str, Commit]) -> None:
        self.serial += 1
        living = self.config.limits
        follow(living, wanted.limits)
        self.config = replace(wanted, limits=living)
        self.digest = self.digest_of(self.config)
        for name, commit in commits.items():
            try:
                commit()
            except Exception:  # a bug; the others come into force all the same
                self.log.exception("reload_part_failed", part=name)
                self.failed(f"{name} has failed, which is a fault of the broker: see its log")

    def _refuse(self, **why: str) -> None:
        self.log.error("settings_not_reloaded", **why)
        self.failed(": ".join(why.values()))
