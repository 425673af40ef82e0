"""TLS as it is configured: contexts made of the files of `[tls]` and `[cluster_tls]`, and names in certificates.

Knows files and `ssl`, and nothing of who listens or dials. The surprising decision: a name in a client's
certificate that cannot be shown whole is left out, never cut or escaped. Two certificates must not become one
client because their names look alike when shortened.
"""

import os
import ssl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from triode_broker.config import Tls
from triode_broker.printable import escape
from triode_broker.secrets_on_disk import BadFile, read_private, read_trusted

MAX_NAMES: Final = 16  # of one certificate
MAX_NAME_CHARACTERS: Final = 255
#: What a node's certificate may say as its name, beside the name itself as a DNS name.
NODE_URI: Final = "triode://{cluster}/{node}"

#: What OpenSSL calls what goes wrong most, and what that means here.
_WORDS: Final = {
    "KEY_VALUES_MISMATCH": "the key is not the one that this certificate was made for",
    "NO_START_LINE": "there is no PEM text in it: -----BEGIN …",
    "NO_CERTIFICATE_OR_CRL_FOUND": "there is no certificate in it",
    "PEM_LIB": "the PEM text in it, or in the key's file, is damaged or incomplete",
}


class BadCertificate(Exception):
    """Why a file cannot be used: `setting` is its name in the table, `wrong` ends a sentence begun with it."""

    def __init__(self, setting: str, wrong: str) -> None:
        super().__init__(f"{setting}: {wrong}")
        self.setting = setting
        self.wrong = wrong


def listening(settings: Tls, *, is_for_nodes: bool = False) -> ssl.SSLContext:
    """For a listener with this certificate; other nodes must show one, where there is a `client_ca`.

    Raises BadCertificate.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _show(context, settings)
    if settings.client_ca:
        _trust(context, settings)
        is_required = is_for_nodes or settings.client_certificates == "required"
        context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
    return context


def dialling(settings: Tls) -> ssl.SSLContext:
    """For this node where it connects to others.

    With a `client_ca` who is there is told by the node's name in its certificate (`is_of_node`), so that addresses
    need not be in it; without one by the system's authorities and the host's name. Raises BadCertificate.
    """
    context = ssl.create_default_context()
    if settings.client_ca:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        _trust(context, settings)
    _show(context, settings)
    return context


def to_itself() -> ssl.SSLContext:
    """For this process where it is its own client: nobody else can listen there, and names need not fit."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _show(context: ssl.SSLContext, settings: Tls) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    if settings.key and _is_swapped(settings):
        raise BadCertificate("key", "holds a certificate and no key: it and tls.certificate are swapped")
    for setting, file, is_secret in files(settings):
        _check(setting, file, is_secret=is_secret)
    try:
        context.load_cert_chain(settings.certificate, settings.key or None, password=_no_password)
    except (OSError, ValueError) as error:
        raise BadCertificate("certificate", _wrong(error)) from None


def _is_swapped(settings: Tls) -> bool:
    """Asked before anything about modes: a certificate need not be hidden because it stands in the wrong line."""
    try:
        key = Path(settings.key).read_bytes()
    except (OSError, ValueError):
        return False  # told by whoever has to read it
    return b"-----BEGIN CERTIFICATE" in key and b"PRIVATE KEY-----" not in key


def _trust(context: ssl.SSLContext, settings: Tls) -> None:
    _check("client_ca", settings.client_ca, is_secret=False)
    try:
        context.load_verify_locations(settings.client_ca)
    except (OSError, ValueError) as error:
        raise BadCertificate("client_ca", _wrong(error)) from None


def files(settings: Tls) -> Iterator[tuple[str, str, bool]]:
    """The files that are named: by which setting, and whether a secret is in it."""
    yield "certificate", settings.certificate, not settings.key
    if settings.key:
        yield "key", settings.key, True
    if settings.client_ca:
        yield "client_ca", settings.client_ca, False


def _check(setting: str, file: str, *, is_secret: bool) -> None:
    try:
        content = (read_private if is_secret else read_trusted)(file)
    except FileNotFoundError:
        place = "" if os.path.isabs(file) else f": {os.path.abspath(file)}"  # the start's folder decides
        raise BadCertificate(setting, f"there is no such file{place}") from None
    except BadFile as error:
        raise BadCertificate(setting, str(error)) from None
    if not content.strip():
        raise BadCertificate(setting, "is empty")


def _no_password() -> str:
    """Asked by OpenSSL where the key is encrypted; it would ask the terminal."""
    raise ValueError("the key is encrypted, and nobody is asked for its password: store it without one, mode 600")


def _wrong(error: Exception) -> str:
    reason = getattr(error, "reason", None) or ""
    return _WORDS.get(reason) or reason.replace("_", " ").lower() or str(error)


def client_names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """Names in a client's certificate as `ssl` puts it, the most telling first: URIs, DNS names, e-mail, then CN.

    Raises OSError where it is over: a session that goes on is not asked for it again by TLS.
    """
    if not certificate:
        return ()
    if ssl.cert_time_to_seconds(certificate["notAfter"]) <= time.time():
        raise OSError("The client certificate has expired")
    return names(certificate)


def names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """The same, whenever it was."""
    alternatives = certificate.get("subjectAltName", ())
    found = [name for kind in ("URI", "DNS", "email") for of, name in alternatives if of == kind]
    found += [name for row in certificate.get("subject", ()) for of, name in row if of == "commonName"]
    return tuple([name for name in dict.fromkeys(found) if _is_whole(name)][:MAX_NAMES])


def _is_whole(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME_CHARACTERS and escape(name) == name


def is_of_node(certificate: Mapping[str, Any], cluster: str, node: str) -> bool:
    """Whether a node's certificate says that it is this node's: exactly, no pattern and no CN."""
    wanted = (("DNS", node), ("URI", NODE_URI.format(cluster=cluster, node=node)))
    return any(name in wanted for name in certificate.get("subjectAltName", ()))
