"""Securing: the settings about TLS and proxies, put together for those who listen and dial.

A part of the composition root. The surprising decision: files are looked at every few seconds, beside SIGHUP. What
renews certificates (certbot, a mounted secret) does not always know whom to tell.
"""

import time
from collections.abc import Callable
from typing import Any

import trio

from triode_broker.certificates import LOOK_SECONDS, Certificates
from triode_broker.cluster.securing import PeerTls
from triode_broker.config import Config
from triode_broker.edge.forwarded import Proxies
from triode_broker.edge.front import Front
from triode_broker.tls import BadCertificate, client_names, is_of_node


class BadSecuring(Exception):
    """Why settings cannot be used: `setting` is its name, `wrong` ends a sentence begun with it."""

    def __init__(self, setting: str, wrong: str) -> None:
        super().__init__(f"{setting}: {wrong}")
        self.setting = setting
        self.wrong = wrong


class Securing:
    """One node's."""

    def __init__(self, config: Config, log: Any, now: Callable[[], float] = time.time) -> None:
        """`now`: seconds of the wall clock. Raises BadCertificate; ValueError for a proxy that is no network."""
        clients, nodes = config.tls, config.cluster_tls
        self._clients = Certificates("tls", clients, log, now) if clients.certificate else None
        self._nodes = None
        if nodes.certificate and config.cluster_listen:
            self._nodes = Certificates("cluster_tls", nodes, log, now, is_for_nodes=True)
        operators = config.admin.tls
        self._operators = Certificates("admin.tls", operators, log, now) if operators.certificate else None
        self._names_nodes = bool(nodes.client_ca)
        self._tables = [one for one in (self._clients, self._nodes, self._operators) if one is not None]
        self._proxies = Proxies(config.trusted_proxies)
        self._has_header = config.proxy_protocol

    def prepare(self, old: Config, new: Config) -> Callable[[], None]:
        """Other files and proxies, where they are others. Raises BadSecuring. Returns what has them in use."""
        commits: list[Callable[[], None]] = []
        for table, before, after, has in (
            ("tls", old.tls, new.tls, self._clients),
            ("cluster_tls", old.cluster_tls, new.cluster_tls, self._nodes),
        ):
            if has is None or before == after:
                continue
            try:
                commits.append(has.prepare(after))
            except BadCertificate as error:
                raise BadSecuring(f"{table}.{error.setting}", error.wrong) from None
        proxies = Proxies(new.trusted_proxies)

        def commit() -> None:
            self._proxies = proxies
            for one in commits:
                one()

        return commit

    def front(self) -> Front:
        """What stands in front of clients' connections."""
        tls = None if self._clients is None else self._clients.listening
        return Front(tls, client_names, self._proxies, self._has_header)

    def operators_front(self) -> Front:
        """What stands in front of operators' connections: no proxy, who asks there is who connects."""
        return Front(None if self._operators is None else self._operators.listening, client_names)

    def peer_tls(self) -> PeerTls | None:
        """What stands around links."""
        if self._nodes is None:
            return None
        return PeerTls(self._nodes.listening, self._nodes.dialling, is_of_node if self._names_nodes else None)

    def renew(self) -> None:
        """Load all certificates again, now."""
        for one in self._tables:
            one.reload()

    async def run(self) -> None:
        """Load what changes, until cancelled."""
        while self._tables:
            for one in self._tables:
                one.look()
            await trio.sleep(LOOK_SECONDS)

    def degraded(self) -> list[str]:
        """What of it is not as it should be."""
        return [trouble for one in self._tables for trouble in one.troubles()]

    def report(self) -> dict[str, object]:
        """For health, by table of the settings."""
        return {one.table: one.report() for one in self._tables}
