"""What can be wrong with `[[webhooks]]` whose types are all right.

Knows finished rows. The surprising decision: a row without a secret is wrong. Whoever takes requests that nobody
signs takes them from anybody.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from triode_protocol.topics import HARD_MAX_BYTES, HARD_MAX_LEVELS, BadTopic, check_filter

from triode_broker.cli.known_settings import row_name, shown
from triode_broker.cli.urls import is_url
from triode_broker.config import Config, Webhook
from triode_broker.core.events import TOPICS
from triode_broker.webhooks.wanted import kinds_of

Problem = tuple[str, str]


def webhook_problems(config: Config) -> Iterator[Problem]:
    """All of them."""
    names: set[str] = set()
    for number, row in enumerate(config.webhooks, 1):

        def at(field: str, number: int = number) -> str:
            return row_name("webhooks", number, field)

        if not row.name:
            yield at("name"), ": has to be given: what waits for a webhook is kept under its name"
        elif row.name in names:
            yield at("name"), f" = {shown(row.name)}: there are two of that name"
        names.add(row.name)
        for field, wrong in (*_url(row), *_wishes(row), *_secrets(row)):
            yield at(field), wrong


def _url(row: Webhook) -> Iterator[Problem]:
    if not is_url(row.url, "https", "http"):
        yield "url", f" = {shown(row.url)}: is not an https:// URL, like https://shop.example/triode"
    elif (parts := urlsplit(row.url)).username is not None or parts.fragment:
        yield "url", ": holds a user or a fragment: requests are signed, and need no password"
    if row.backoff_min_ms > row.backoff_max_ms:
        yield "backoff_min_ms", f" = {row.backoff_min_ms}: is above backoff_max_ms = {row.backoff_max_ms}"


def _wishes(row: Webhook) -> Iterator[Problem]:
    try:
        kinds_of(row)
    except ValueError as error:
        yield "events", f": {shown(str(error))} is no kind of event: there are {', '.join(TOPICS)}"
    for filter in row.topics:
        try:
            check_filter(filter, HARD_MAX_LEVELS, HARD_MAX_BYTES)
        except BadTopic as error:
            yield "topics", f": {shown(filter)} is not a filter: {error}"


def _secrets(row: Webhook) -> Iterator[Problem]:
    if not (row.secret_file or row.secret_env):
        yield "secret_file", ": requests have to be signed: secret_file = FILE (triode token generate-secret)"
    for name in ("secret", "old_secret"):
        if getattr(row, f"{name}_file") and getattr(row, f"{name}_env"):
            yield f"{name}_file", f": and {name}_env is given too: there is one secret"
