"""Where operators' commands ask: the administration socket of a node of this machine, or any node over HTTP.

Knows both ways and which request a call is over HTTP, not what is answered. The surprising decision: a call has
the same name and the same answer either way, so that a command does not know which one it uses.
"""

import argparse
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

from triode_broker.cli.administration import node
from triode_broker.cli.connecting import ssl_context, token
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.urls import is_url
from triode_broker.release import install

PATIENCE_SECONDS: Final = 30.0
#: The request of each call (docs/http-operators.md), held against the table of operations by a test.
REQUESTS: Final[dict[str, tuple[str, str]]] = {
    "figures": ("GET", "/v1/figures"),
    "topics": ("GET", "/v1/topics"),
    "slow": ("GET", "/v1/slow"),
    "connections": ("GET", "/v1/connections"),
    "cluster": ("GET", "/v1/cluster"),
    "subs.list": ("GET", "/v1/durable"),
    "tail.open": ("POST", "/v1/tail"),
    "tail.read": ("GET", "/v1/tail/{tap}"),
    "tail.close": ("DELETE", "/v1/tail/{tap}"),
}
_STATUS_CODES: Final = {401: ExitCode.REFUSED, 403: ExitCode.REFUSED, 503: ExitCode.TIMEOUT, 504: ExitCode.TIMEOUT}


class Asked(Protocol):
    """Whoever answers administration calls."""

    def call(self, name: str, /, **parameters: object) -> Any:
        """The result of one call. Raises Failure."""


class OverHttp:
    """A node at a URL. One connection is kept for all that is asked."""

    def __init__(self, url: str, secret: str, verify: Any) -> None:
        self._url = url.rstrip("/")
        httpx = _httpx()
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self._error = httpx.HTTPError
        # Not through a proxy of the environment: it would be shown the secret.
        self._client = httpx.Client(
            headers=headers, verify=verify, timeout=PATIENCE_SECONDS, trust_env=False, follow_redirects=False
        )

    def call(self, name: str, /, **parameters: object) -> Any:
        """The result of one call. Raises Failure."""
        method, path = REQUESTS[name]
        path = path.format(**{key: quote(str(value), safe="") for key, value in parameters.items()})
        rest = {key: value for key, value in parameters.items() if f"{{{key}}}" not in REQUESTS[name][1]}
        how: dict[str, Any] = {"json": rest} if method == "POST" else {"params": _as_query(rest)}
        return self.request(method, path, **how)

    def request(self, method: str, path: str, **how: Any) -> Any:
        """What one request is answered. Raises Failure."""
        try:
            answer = self._client.request(method, f"{self._url}{path}", **how)
        except self._error as error:
            raise Failure(
                ExitCode.TIMEOUT, f"no answer from {self._url}: {error or type(error).__name__}"
            ) from None
        try:
            said = answer.json()
        except ValueError:
            said = {}
        if answer.status_code == 200:
            return said
        problem = said.get("error", {}) if isinstance(said, dict) else {}
        reason = problem.get("message") or f"HTTP status {answer.status_code}: is it a broker's?"
        code = _STATUS_CODES.get(answer.status_code, ExitCode.FAILURE)
        raise Failure(code, f"{self._url}{path}: {reason}")


def _as_query(parameters: Mapping[str, object]) -> dict[str, str]:
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in parameters.items()
    }


def _httpx() -> Any:
    try:
        return import_module("httpx")
    except ModuleNotFoundError:
        raise Failure(ExitCode.USAGE, f"--url needs httpx: {install('server')}") from None


def asked(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Asked:
    """Whom the arguments name: --url, else a node of this machine. Raises Failure."""
    url = arguments.url
    if url is None:
        return node(arguments, environ)
    if not is_url(url, "http", "https") or urlsplit(url).username is not None or urlsplit(url).query:
        raise Failure(ExitCode.USAGE, "--url: an address looks like http://127.0.0.1:7402 or https://HOST:PORT")
    if urlsplit(url).path.strip("/"):
        raise Failure(ExitCode.USAGE, "--url: without a path: /v1 is added")
    context = ssl_context(arguments)
    return OverHttp(url, token(arguments, environ), True if context is None else context)
