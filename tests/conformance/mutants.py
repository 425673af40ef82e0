"""The Python client with one thing changed: what the tiny client does not have (test_plants.py).

Run as an adapter, `python mutants.py NAME …` is one of them after the other, a new one after each `reset`. The
surprising decision: a mutant replaces one method of the real client in this process of its own. The change is told
in a line, and everything around it is what users run.
"""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "clients" / "python"))

import conformance_adapter
import triode.settling
from msgspec import UNSET
from triode.client import Client
from triode.consuming import Terms
from triode.driver import Driver
from triode.errors import SubscriptionEnded
from triode.renewing import Renewal
from triode.route import Route
from triode.session import Session
from triode.settling import Settler
from triode.subscription import Phase, Subscription
from triode.subscriptions import Subscriptions
from triode_protocol import packets

Mutation = tuple[object, str, Callable[..., Any]]
# What mutants fall back on.
REFUSE = Subscriptions._refuse
OPENED = Session.opened
PUT_INTO = Terms.put_into
CONNECTED = Session._on_connected
NACK = Settler.nack
LEFT = Route.left
HISTORY = Client.history


def ask_again_for_ever(
    self: Subscriptions, subscription: Subscription, error: SubscriptionEnded, now: float
) -> None:
    """Takes the end of a subscription for a pause."""
    error.retry = "backoff"
    REFUSE(self, subscription, error, now)


def tell_everybody(self: Subscriptions, topic: str, item: Any) -> None:
    """Tells of presence whoever matches."""
    for subscription in self._match(topic):
        if subscription.phase is Phase.ACTIVE:
            self._hand_over(subscription, item)


def open_without_will(self: Session, now: float) -> None:
    """Says its will once."""
    OPENED(self, now)
    self.identity.will = UNSET


def put_some(self: Terms, packet: packets.Subscribe) -> None:
    """Forgets how often a message may be tried."""
    PUT_INTO(self, packet)
    packet.max_attempts = 0


def nack_politely(self: Settler, *arguments: Any, **options: Any) -> Any:
    """Gives back what it should reject."""
    options.pop("reject", None)
    return NACK(self, *arguments, **options)


async def fetch_each_time(self: Driver, ask: Callable[[], Any]) -> Any:
    """Calls the program's function whenever a token is wanted."""
    return await ask()


async def keep_the_token(self: Driver) -> None:
    """Fetches one token for good."""
    if not self.session.identity.token and not isinstance(self._token, str):
        self.session.identity.token = await self._token()


def left_and_stay(self: Route, now: float, *arguments: Any, **options: Any) -> float:
    """Goes nowhere else."""
    due = LEFT(self, now, *arguments, **options)
    self._round.clear()
    self._round.append(self._current)
    return due


def connected_at_any_price(self: Session, packet: packets.Connected, now: float) -> None:
    """Takes no notice of how long silence may last."""
    packet.ping_ms = 3_600_000
    CONNECTED(self, packet, now)


def keep_what_was_handed(self: Subscription) -> None:
    """Takes deliveries of a lost connection for good."""


def never_renew(self: Renewal, now: float) -> None:
    """Lets tokens expire."""


async def take_history(self: Client, topic: str, **options: Any) -> Any:
    """Asks for the newest, whatever it was asked for."""
    return await HISTORY(self, topic, last=options.get("limit", 100))


MUTATIONS: dict[str, Mutation] = {
    "AcksWhatIsLost": (triode.settling, "is_lost", lambda subscription, handed: False),
    "AsksForEver": (Subscriptions, "_refuse", ask_again_for_ever),
    "FetchesTokensAtOnce": (Driver, "_fetch_token", fetch_each_time),
    "ForgetsItsWill": (Session, "opened", open_without_will),
    "ForgetsTerms": (Terms, "put_into", put_some),
    "KeepsItsToken": (Driver, "_renew_token", keep_the_token),
    "KeepsWhatWasHanded": (Subscription, "give_back", keep_what_was_handed),
    "LetsTokensExpire": (Renewal, "tick", never_renew),
    "NeverHearsSilence": (Session, "_on_connected", connected_at_any_price),
    "NeverRejects": (Settler, "nack", nack_politely),
    "ReadsTheNewestOnly": (Client, "history", take_history),
    "StaysAtItsNode": (Route, "left", left_and_stay),
    "TellsEverybodyWhoIsThere": (Subscriptions, "_tell", tell_everybody),
}


class Mutated(conformance_adapter.Adapter):
    """The adapter of several clients."""

    def __init__(self, face: Any, names: list[str]) -> None:
        super().__init__(face)
        self._names = iter(names)

    async def _scenario(self, lines: AsyncIterator[bytes]) -> bool:
        with mutated(next(self._names, "")):
            return await super()._scenario(lines)


@contextmanager
def mutated(name: str) -> Any:
    """One method is another one meanwhile."""
    if not name:
        yield
        return
    owner, attribute, replacement = MUTATIONS[name]
    original = getattr(owner, attribute)
    setattr(owner, attribute, replacement)
    yield
    setattr(owner, attribute, original)


if __name__ == "__main__":
    face = conformance_adapter.TrioFace()
    face.run(Mutated(face, sys.argv[1:]).run)
