"""Posture: what in a configuration is not safe, and which of it is refused unless somebody insists (`insecure`).

Knows a finished `Config` and no file. The surprising decision: one list serves all. Whatever is unsafe says so in
one sentence with a way out, and that is what `triode serve` refuses to start with, logs as a warning and shows in
health.
"""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

import attrs

from triode_broker.config import Config
from triode_broker.this_machine import is_this_machine


@attrs.frozen
class Unsafe:
    """One thing that is not safe; `name` is the setting, `why` a sentence that goes on behind it."""

    name: str
    why: str
    is_refused: bool = False  # without `insecure`


_WITHOUT_RULES: Final = (
    "others can reach this address, and nobody is asked who they are: say who may connect ([[tokens]], [auth]) and"
    " what they may do ([[permissions]]), as docs/authentication.md shows, or listen on 127.0.0.1"
)
_PLAIN: Final = (
    "credentials and messages cross the network as plain text: give it a certificate ([tls]), or name the proxy"
    " that ends TLS in front of it in trusted_proxies"
)
_PLAIN_OPERATORS: Final = (
    "others can reach this address, and the operators' secret would cross the network as plain text: give it a"
    " certificate ([admin.tls]), or listen on 127.0.0.1"
)


def is_open(config: Config) -> bool:
    """Whether nobody is asked who they are: nothing was configured that could tell."""
    auth = config.auth
    asks = auth.anonymous or auth.api_keys_file or auth.callout_url or auth.certificates
    return not (asks or config.tokens or config.permissions)


def unsafe(config: Config) -> list[Unsafe]:
    """All of it, what is refused first."""
    return sorted(_unsafe(config), key=lambda one: not one.is_refused)


def _unsafe(config: Config) -> Iterator[Unsafe]:
    is_public = not is_loopback(config.listen)
    if is_public and is_open(config):
        yield Unsafe("listen", _WITHOUT_RULES, is_refused=True)
    behind_proxy = config.trusted_proxies or config.proxy_protocol
    if is_public and not (is_open(config) or config.tls.certificate or behind_proxy):
        yield Unsafe("tls.certificate", _PLAIN)
    if config.cluster_listen and not is_loopback(config.cluster_listen) and not config.cluster_tls.certificate:
        yield Unsafe("cluster_tls.certificate", "messages between nodes cross the network as plain text")
    admin = config.admin
    if admin.listen and not is_loopback(admin.listen) and not admin.tls.certificate:
        yield Unsafe("admin.listen", _PLAIN_OPERATORS, is_refused=True)
    if "*" in config.origins:
        yield Unsafe("origins", '"*" lets the pages of any site connect with the reach of whoever looks at them')
    if config.auth.query_token:
        yield Unsafe("auth.query_token", "tokens in URLs end up in the logs and histories of others")
    urls = [
        ("auth.callout_url", config.auth.callout_url),
        *(("tokens.jwks_url", key.jwks_url) for key in config.tokens),
        *(("webhooks.url", row.url) for row in config.webhooks),
    ]
    for name, url in urls:
        if url and not is_private(url):
            yield Unsafe(
                name, "who answers there is not proved, and anybody between may answer: use https://", True
            )
    if config.insecure:
        yield Unsafe("insecure", "what is refused otherwise is not refused")


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches HOST:PORT."""
    return is_this_machine(address.rpartition(":")[0])


def is_private(url: str) -> bool:
    """Whether nobody between can read or answer: https, or this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no URL at all, which is said of it elsewhere
        return True
    return parts.scheme == "https" or is_this_machine(parts.hostname or "")
