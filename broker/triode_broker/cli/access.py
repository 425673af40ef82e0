"""What can be wrong with who may connect and what they may do: `[auth]`, `[[tokens]]`, `[[permissions]]`.

Knows a finished `Config`. The surprising decision: keys are read too, as the broker will read them, so that
`triode serve --check` finds what would end its start; but for that command alone. Who administers a broker need
not be able to read its secrets, nor have the libraries that can.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from urllib.parse import urlsplit

from triode_broker.auth.rules import ANONYMOUS, check_rules
from triode_broker.cli.known_settings import row_name, shown
from triode_broker.cli.urls import is_url
from triode_broker.config import Auth, Config, TokenKey
from triode_broker.core.rights import ACTIONS

Problem = tuple[str, str]  # name of a setting, and how the sentence that begins with it goes on

_KEYS = ("key_file", "key_env", "jwks_url")


def access_problems(config: Config) -> Iterator[Problem]:
    """All that is wrong and can be told without opening a file."""
    yield from _tokens(config)
    yield from _auth(config)
    yield from _permissions(config)


def _tokens(config: Config) -> Iterator[Problem]:
    for number, row in enumerate(config.tokens, 1):
        yield from _one_key(row, number)
        if row.jwks_url:
            yield from _url(row_name("tokens", number, "jwks_url"), row.jwks_url)
        if not row.user_claim:
            yield row_name("tokens", number, "user_claim"), ' = "": a token has to say whose it is, like "sub"'


def _one_key(row: TokenKey, number: int) -> Iterator[Problem]:
    given = [name for name in _KEYS if getattr(row, name)]
    if not given:
        wrong = ": there is no key: give key_file = FILE, key_env = VARIABLE or jwks_url = URL"
        yield row_name("tokens", number, "key_file"), wrong
    elif len(given) > 1:
        yield row_name("tokens", number, given[0]), f": and {given[1]} is given too: a row has one key; add a row"
    if row.jwks_url and row.algorithm.startswith("HS"):
        wrong = f' = "{row.algorithm}": a secret is not published, so it cannot come from jwks_url'
        yield row_name("tokens", number, "algorithm"), wrong


def _auth(config: Config) -> Iterator[Problem]:
    auth = config.auth
    if auth.callout_url:
        yield from _url("auth.callout_url", auth.callout_url)
    for name in ("callout_secret_file", "callout_secret_env"):
        if getattr(auth, name) and not auth.callout_url:
            yield f"auth.{name}", ": there is nobody to send it to: give auth.callout_url"
    if auth.callout_secret_file and auth.callout_secret_env:
        yield "auth.callout_secret_file", ": and auth.callout_secret_env is given too: there is one secret"
    if auth.certificates and not config.tls.client_ca:
        wrong = " = true: clients are not asked for certificates: give tls.client_ca, who signs them"
        yield "auth.certificates", wrong


def _permissions(config: Config) -> Iterator[Problem]:
    rows, auth = config.permissions, config.auth
    for number, field, wrong in check_rules(rows):
        yield row_name("permissions", number, field), f": {wrong}"
    yield from _too_deep(config)
    for number, row in enumerate(rows, 1):
        if row.role == ANONYMOUS and not auth.anonymous:
            wrong = ' = "anonymous": they are not let in: auth.anonymous = true does that'
            yield row_name("permissions", number, "role"), wrong
    if rows and not (config.tokens or auth.anonymous or _kinds(auth)):
        wrong = (
            ": nobody can come in to whom they could be given: say how clients show who they are ([[tokens]],"
            " auth.api_keys_file, auth.certificates, auth.callout_url), or let them in with auth.anonymous = true"
        )
        yield "permissions", wrong


def _too_deep(config: Config) -> Iterator[Problem]:
    """Rules for topics that nobody can name."""
    most = config.limits.max_topic_levels
    for number, row in enumerate(config.permissions, 1):
        for field in (*ACTIONS, *(f"deny_{action}" for action in ACTIONS)):
            for rule in getattr(row, field):
                if rule.removesuffix("/#").count("/") >= most:
                    wrong = (
                        f": {shown(rule)} matches nothing: topics have at most limits.max_topic_levels = {most}"
                    )
                    yield row_name("permissions", number, field), wrong


def _kinds(auth: Auth) -> bool:
    return bool(auth.api_keys_file or auth.certificates or auth.callout_url)


def _url(name: str, url: str) -> Iterator[Problem]:
    if not is_url(url, "http", "https"):
        yield name, f" = {shown(url)}: not an https:// URL"
    elif (parts := urlsplit(url)).username is not None or parts.fragment:
        yield name, ": holds a user, a password or a fragment, which an https:// URL here has not"


def key_problems(config: Config, environ: Mapping[str, str]) -> Iterator[Problem]:
    """What would end the start: files and variables that hold no good key (S14)."""
    try:
        keys = import_module("triode_broker.auth.static_keys")
    except ModuleNotFoundError as missing:
        if missing.name not in ("jwt", "cryptography"):
            raise
        return  # `serve` says what to install
    static = [(row, number) for number, row in enumerate(config.tokens, 1) if not row.jwks_url]
    readers = [
        *(partial(keys.read_key, row, number, environ) for row, number in static),
        partial(keys.read_api_keys, config.auth),
        partial(keys.read_callout_secret, config.auth, environ),
        partial(keys.read_operators_secret, config.admin, environ),
    ]
    for read in readers:
        try:
            read()
        except keys.BadCredentials as error:
            yield error.setting, f": {error.wrong}"
