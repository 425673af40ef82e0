"""What `pub` and `sub` share: where to connect and with which token, and the client's errors as sentences.

Knows the client library, neither command. The surprising decision: a token is never an argument, because every
user of a machine can read the arguments of every process (S10); it comes from a file or the environment.
"""

import argparse
import logging
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio
import triode
from triode.backoff import shown_url, websocket_url

from triode_broker.cli.advice import advice, no_connection
from triode_broker.cli.arguments import DEFAULT_URL
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.screen import Screen

CONNECT_SECONDS = 10.0  # for the first connection, where nothing else is asked for
SILENT_SECONDS = 1.0  # without a broker, until it is told
SLOWER = ("rate_limited", "overloaded")  # refusals that hold up everything, and are told once
#: Complaints about a new token: that there is none, or that the broker does not take it.
OF_TOKENS = ("token", "unauthorized", "token_expired", "revoked")
Complain = Callable[[triode.Complaint], None]
OR = " or "  # between the addresses of a sentence


def make_client(
    arguments: argparse.Namespace,
    environ: Mapping[str, str],
    wait_seconds: float,
    expiry_seconds: float = math.inf,
) -> triode.Client:
    """The client that the arguments ask for, not yet entered. Raises Failure for a wrong address or token file.

    `wait_seconds`: for the first connection; later ones are tried for as long as the work lasts.
    """
    for name in ("triode", "trio-websocket"):  # what they log is told here, in words for people
        logging.getLogger(name).addHandler(logging.NullHandler())
    return triode.connect(
        urls(arguments, environ),
        token=token_source(arguments, environ),
        name=f"triode {arguments.command}",
        wait_seconds=wait_seconds,
        publish_expiry_seconds=expiry_seconds,
        ssl_context=ssl_context(arguments),
    )


def ssl_context(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """How wss:// is spoken; None: as usual, with the system's authorities. Raises Failure for a file of no use."""
    if not (arguments.ca or arguments.insecure or arguments.certificate):
        return None
    context = ssl.create_default_context()
    if arguments.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with _pem_failures("--ca", arguments.ca):
        if arguments.ca:
            context.load_verify_locations(arguments.ca)
    with _pem_failures("--certificate", arguments.certificate):
        if arguments.certificate:
            context.load_cert_chain(arguments.certificate)
    return context


@contextmanager
def _pem_failures(flag: str, file: str | None) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError:
        raise Failure(ExitCode.USAGE, f"{flag} {file}: does not hold what is asked for, as PEM text") from None
    except OSError as error:
        raise Failure(ExitCode.USAGE, f"{flag} {file}: cannot be read: {error.strerror}") from None


def url(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """The broker's address, or all of them, to be named in a sentence. Raises Failure."""
    return OR.join(map(shown_url, urls(arguments, environ)))


def urls(arguments: argparse.Namespace, environ: Mapping[str, str]) -> list[str]:
    """The broker's addresses. Raises Failure for a wrong one, and an empty one is: never "the default"."""
    source, said = named_urls(arguments, environ)
    found = [address.strip() for part in said for address in part.split(",")]
    for address in found:
        if not address:
            raise Failure(ExitCode.USAGE, f"{source}: is empty; an address looks like {DEFAULT_URL}")
        try:
            websocket_url(address)
        except ValueError as error:
            value = "" if repr(shown_url(address)) in str(error) else f" {shown_url(address)}"  # named once
            raise Failure(ExitCode.USAGE, f"{source}{value}: {error}") from None
    return found


def named_urls(arguments: argparse.Namespace, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """Who names the broker's addresses, and what that says."""
    if arguments.url is not None:
        return "--url", list(arguments.url)
    return ("TRIODE_URL", [environ["TRIODE_URL"]]) if "TRIODE_URL" in environ else ("default", [DEFAULT_URL])


def token(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """The token to connect with, or "". Raises Failure if the file cannot be used; never shows the token."""
    if arguments.token_file is None:
        return environ.get("TRIODE_TOKEN", "").strip()
    try:
        found = Path(arguments.token_file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise Failure(ExitCode.USAGE, f"--token-file {arguments.token_file}: cannot be read: {reason}") from None
    if not found:  # S14: an empty secret is a mistake, never "no secret"
        raise Failure(ExitCode.USAGE, f"--token-file {arguments.token_file}: is empty")
    return found


def token_source(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str | Callable[[], Awaitable[str]]:
    """What the client takes: a token that stays, or a function that reads the file again, where one can.

    Raises Failure as `token`. Whoever renews tokens writes the file anew; what is a pipe has been read.
    """
    found = token(arguments, environ)
    if arguments.token_file is None or not Path(arguments.token_file).is_file():
        return found

    async def read_again() -> str:
        return token(arguments, environ)

    return read_again


@contextmanager
def failures_in_words(address: str) -> Iterator[None]:
    """Turns what the client raises into a Failure with what to do about it."""
    try:
        yield
    except triode.BadTopic as error:
        raise Failure(ExitCode.USAGE, f"not a topic or filter: {error}") from error
    except triode.TriodeError as error:
        raise explain(error, address) from error


def explain(error: triode.TriodeError, address: str) -> Failure:
    """The failure that an error of the client is, for somebody who has never read its documentation."""
    match error:
        case triode.ConnectionRefused() | triode.ConnectionClosed() if error.code or error.name:
            return Failure(ExitCode.REFUSED, f"the broker at {address} closed the connection: {error}")
        case triode.ConnectionRefused():
            return Failure(ExitCode.TIMEOUT, no_connection(str(error), address))
        case triode.Refused():
            return Failure(ExitCode.REFUSED, f"the broker refused: {error}")
        case triode.OutcomeUnknown():
            return Failure(ExitCode.TIMEOUT, f"sent, but not confirmed in time; it may be stored: {error}")
        case triode.Expired():
            return Failure(ExitCode.TIMEOUT, f"not sent: the broker at {address} was not there in time")
        case _:
            return Failure(ExitCode.FAILURE, str(error))


@asynccontextmanager
async def connected(client: triode.Client, address: str, wait_seconds: float) -> AsyncIterator[None]:
    """Inside, the client is connected; until it is, its user hears what the matter is. Raises Failure."""
    async with trio.open_nursery() as nursery:  # around the client, whose own nursery ends before this one
        nursery.start_soon(tell_absence, client.events(), address, wait_seconds, Screen())
        with failures_in_words(address):
            async with client:
                yield
        nursery.cancel_scope.cancel()


async def tell_absence(events: triode.Events, address: str, wait_seconds: float, screen: Screen) -> None:
    """Say once that there is no broker and why, and when there is one; nothing where it comes soon.

    Raises Failure where no waiting would help.
    """
    silent_until = trio.current_time() + SILENT_SECONDS
    end = f"for {wait_seconds:g} s in all" if math.isfinite(wait_seconds) else "until there is one"
    has_told, reason = False, ""
    waiting: dict[str, str] = {}  # by URL, why it is not this one
    count = len(address.split(OR))
    while True:
        with trio.move_on_at(silent_until if reason and not has_told else math.inf):
            event = await anext(events, None)
            if event is None:  # the client is closed: its own error says why
                return
            if isinstance(event, triode.StateChanged) and event.state is triode.State.CONNECTED:
                if has_told:
                    screen.tell(f"connected, to node {event.node}")
                return
            reason = getattr(event, "reason", "") or reason
            if isinstance(event, triode.StateChanged) and event.state is triode.State.WAITING:
                waiting[event.url] = event.reason
                if len(waiting) >= count and all(advice(why, url).is_final for url, why in waiting.items()):
                    raise Failure(ExitCode.FAILURE, no_connection(reason, address))
        if reason and not has_told and trio.current_time() >= silent_until:
            has_told = True
            screen.tell(f"cannot connect to {address} ({reason}), trying {end}")


async def tell_changes(events: triode.Events, screen: Screen, complain: Complain | None = None) -> None:
    """Say when the connection is lost and when it is back, once each; and what the broker complains of.

    `complain`: takes complaints about messages, where they are not just to be told.
    """
    is_lost, patient = False, set[str]()
    async for event in events:
        match event:
            case triode.StateChanged(state=triode.State.WAITING) if not is_lost:
                is_lost = True
                screen.tell(f"connection lost ({event.reason}), trying to connect again")
            case triode.StateChanged(state=triode.State.CONNECTED) if is_lost:
                is_lost = False
                screen.tell(f"connected again, to node {event.node}")
            case triode.Complaint() if event.name in OF_TOKENS:
                screen.tell(f"no new token: {event.message}")
            case triode.HeldBack() if event.name in SLOWER and event.name not in patient:
                patient.add(event.name)
                screen.tell(f"slower from here on, as the broker asks ({event.name}: {event.message})")
            case triode.Complaint() if complain is not None:
                complain(event)
            case triode.Complaint():
                screen.tell(f"the broker refused a message: {event.name}: {event.message}")
