"""Stores: the files of this node's durable shards: which there are to be, and opening them in one piece.

Knows the engine and the configuration, nothing of who serves the logs. The surprising decision: a file that is
missing is not made where other nodes hold shards too, before they were asked (`missing`): one that was mislaid
would come back empty and in the right.
"""

import re
import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from triode_broker.config import DEAD_LETTER_RULE, Config, TopicRule
from triode_broker.core.policy import Policies
from triode_broker.core.tenants import is_own
from triode_broker.log.disk import DiskLog, StoreError, make_directory, open_log

_LOG_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"  # 5 bits each


def new_log_name(shard: str) -> str:
    """A name for a new life of a shard: the shard and 80 random bits."""
    return f"{shard}-" + "".join(secrets.choice(_LOG_ALPHABET) for _ in range(16))


def open_stores(
    config: Config, policies: Policies, log: Any, host: str = ""
) -> list[DiskLog] | list[DiskLog | None]:
    """The files of the durable shards, in order, None where another node holds it; none where nobody does.

    `host`: the name in the files, where it is not this node's own. Raises StoreError: then none is open.
    """
    if config.durable:
        return _open_held(config, policies, log, host)
    if not config.data:
        return []
    directory = Path(config.data)
    shards = [f"d{index}" for index in range(config.durable_shards)]
    found = {path.stem for path in directory.glob("d*.sqlite") if re.fullmatch(r"d\d+", path.stem)}
    stores: list[DiskLog] = []
    try:
        if "d0" in found:
            _check_number(directory, shards, found)
        for shard in reversed(shards):  # the first one last: it says that all of them were made
            stores.append(open_store(config, shard, policies, log, host))
            if "d0" not in found and stores[-1].head():
                raise StoreError(_missing(directory, "d0"))
    except BaseException:
        close_stores(stores)
        raise
    return stores[::-1]


def _open_held(config: Config, policies: Policies, log: Any, host: str) -> list[DiskLog | None]:
    stores: list[DiskLog | None] = []
    if config.data:
        make_directory(Path(config.data))  # what else a node has there does not wait for the shards
    try:
        waits = bool(missing(config))
        for index, holder in enumerate(config.durable):
            shard = f"d{index}"
            is_here = holder == config.node and not (waits and _is_missing(config, shard))
            stores.append(open_store(config, shard, policies, log, host) if is_here else None)
    except BaseException:
        close_stores(stores)
        raise
    return stores


def missing(config: Config) -> list[str]:
    """The durable shards whose files are to be here and are not, and about which other nodes must be asked."""
    if not set(config.durable) - {config.node} or config.create_store:
        return []
    held = [f"d{index}" for index, holder in enumerate(config.durable) if holder == config.node]
    return [shard for shard in held if _is_missing(config, shard)]


def _is_missing(config: Config, shard: str) -> bool:
    return not (Path(config.data) / f"{shard}.sqlite").exists()


def check_stores(config: Config, log: Any) -> None:
    """Open and close the files of a host whose workers are each to open some of them. Raises StoreError.

    So what concerns all of them is judged once: that none is missing, and whether they come from a copy.
    """
    close_stores(open_stores(config, Policies(config.topics), log))


def _check_number(directory: Path, shards: list[str], found: set[str]) -> None:
    """Topics are spread over the shards by their number: with another one they would not be found."""
    if found == set(shards):
        return
    if gone := {f"d{index}" for index in range(len(found))} - found:
        raise StoreError(_missing(directory, min(gone)))
    message = f"durable_shards is {len(shards)}, but {directory} was made with {len(found)}, for good"
    away = sorted(f"{one}.sqlite" for one in set(shards) - found)
    raise StoreError(f"{message}: set it to {len(found)}{', or bring back ' + ', '.join(away) if away else ''}")


def _missing(directory: Path, shard: str) -> str:
    return f"{directory}: {shard}.sqlite is missing, others are there: bring it back, or restore all of them"


def close_stores(stores: Sequence[DiskLog | None]) -> None:
    """Close those that no committer has begun to serve."""
    for store in stores:
        if store is not None:
            store.close()


def _rule_of(policies: Policies, topic: str) -> TopicRule:
    return policies.of(topic, DEAD_LETTER_RULE) if is_own(topic) else policies.of(topic)


class StoreReport:
    """What one store says, as lines of the node's log; called in the loop and in the store's thread.

    A full disk is looked at every second, and said to be full once until there is room.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._is_full = False

    def __call__(self, event: str, **facts: object) -> None:
        """Write it down."""
        if (event == "store_full" and self._is_full) or event == "store_has_new_life":  # that one is `new_log`
            return
        if event in ("store_full", "store_has_room"):
            self._is_full = event == "store_full"
        (self._log.error if event == "store_failed" else self._log.warning)(event, **facts)


def open_store(config: Config, shard: str, policies: Policies, log: Any, host: str = "") -> DiskLog:
    """One file; made where there is none. Raises StoreError."""
    store = open_log(
        Path(config.data),
        shard,
        node=host or config.node,
        limits=config.limits,
        new_name=lambda: new_log_name(shard),
        rule_of=partial(_rule_of, policies),
        restored=config.restored,
        report=StoreReport(log),
    )
    loaded = store.loaded()
    if loaded.reason:
        log.warning("new_log", log=store.name, previous=loaded.previous, reason=loaded.reason)
    return store
