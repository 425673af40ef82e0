"""What can be wrong with settings about TLS and proxies: files that cannot be used, and what does not go together.

Knows a finished `Config`. The surprising decision: files are loaded as they will be to serve, so that
`triode serve --check` says what would keep a node from starting; but for that command alone, as who administers a
broker need not be able to read its keys.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Final
from urllib.parse import urlsplit

from triode_broker.cli.known_settings import shown
from triode_broker.config import Config, Tls
from triode_broker.edge.forwarded import parse_network
from triode_broker.tls import BadCertificate, dialling, listening

Problem = tuple[str, str]  # name of a setting, and how the sentence that begins with it goes on

_NODES_ALIKE: Final = "nodes reach each other with TLS then (cluster_tls): write wss://HOST:PORT"


def front_problems(config: Config) -> Iterator[Problem]:
    """All that is wrong and can be told without opening a file."""
    yield from _proxies(config)
    for table, tls in _tables(config):
        yield from _table(table, tls)
    if config.cluster_tls.certificate:
        yield from _nodes(config)


def certificate_problems(config: Config) -> Iterator[Problem]:
    """What of the files cannot be used."""
    yield from _files("tls", config.tls, lambda tls: (listening(tls),))
    yield from _files("admin.tls", config.admin.tls, lambda tls: (listening(tls),))
    yield from _files(
        "cluster_tls", config.cluster_tls, lambda tls: (listening(tls, is_for_nodes=True), dialling(tls))
    )


def ending_certificates(config: Config, now: Callable[[], float]) -> Iterator[Problem]:
    """Certificates that can be used, and not for long. `now`: seconds of the wall clock."""
    try:
        certificates = import_module("triode_broker.certificates").Certificates
    except ModuleNotFoundError as missing:
        if missing.name != "cryptography":
            raise
        return  # `serve` says what to install
    for table, tls in _tables(config):
        if tls.certificate:
            for trouble in certificates(table, tls, None, now, is_for_nodes=table == "cluster_tls").troubles():
                name = f"{table}.certificate"
                yield name, trouble.removeprefix(name)


def _tables(config: Config) -> tuple[tuple[str, Tls], ...]:
    return ("tls", config.tls), ("cluster_tls", config.cluster_tls), ("admin.tls", config.admin.tls)


def _proxies(config: Config) -> Iterator[Problem]:
    for entry in config.trusted_proxies:
        try:
            parse_network(entry)
        except ValueError as error:
            yield "trusted_proxies", f": {error}"
    if config.proxy_protocol and not config.trusted_proxies:
        yield "proxy_protocol", ' = true: of which proxies? name their addresses: trusted_proxies = ["10.0.0.0/8"]'


def _table(table: str, tls: Tls) -> Iterator[Problem]:
    if not tls.certificate:
        for name in ("key", "client_ca"):
            if value := getattr(tls, name):
                yield f"{table}.{name}", f" = {shown(value)}: there is no {table}.certificate to go with it"
    elif tls.client_certificates == "required" and not tls.client_ca:
        wrong = ": signed by whom? name the authorities' file"
        yield f"{table}.client_certificates", f' = "required"{wrong}: {table}.client_ca'


def _files(table: str, tls: Tls, load: Callable[[Tls], object]) -> Iterator[Problem]:
    try:
        if tls.certificate:
            load(tls)
    except BadCertificate as error:
        yield f"{table}.{error.setting}", f" = {shown(getattr(tls, error.setting))}: {error.wrong}"


def _nodes(config: Config) -> Iterator[Problem]:
    if not config.cluster_listen and config.workers == 1:
        yield (
            "cluster_tls.certificate",
            ": there is no cluster; --cluster-listen HOST:7401 makes this node one of it",
        )
    if config.workers != 1 and not config.cluster_tls.client_ca:
        wrong = ": workers reach each other by addresses that no authority puts into a certificate: name your own"
        yield "cluster_tls.client_ca", f"{wrong} authority's file, and the workers' names in the certificate"
    for name, url in (
        ("cluster_advertise", config.cluster_advertise),
        *(("seeds", seed) for seed in config.seeds),
    ):
        if url and urlsplit(url).scheme == "ws":
            yield name, f": {shown(url)}: {_NODES_ALIKE}"
