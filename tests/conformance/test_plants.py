"""Clients that are wrong in one thing are found, each by the scenario that is about it."""

from pathlib import Path

import pytest
import trio
from triode_broker.conformance.running import run

from tests.conformance.mutants import MUTATIONS
from tests.conformance.plants import PLANTS
from tests.conformance.playing import MUTANTS_ADAPTER, PLANTS_ADAPTER, python, scenario

PATIENCE_SECONDS = 2.0  # all of them fail, and some by what they do not do

Table = dict[str, tuple[str, str]]

#: The plant, the scenario that finds it, and what the runner says about it.
FOUND_BY: Table = {
    "AsksAgainWhatHasEnded": ("ended-unasked", "`filter` is 't', not 'u'"),
    "BreaksOnTheUnknown": ("unknown-packet-type", "nothing of the kind came"),
    "ComesBackAtOnce": ("publish-refused-backoff", "the client sent what nobody expects"),
    "ComesBackAfterTheEnd": ("stop-4002-revoked", "nothing of the kind came"),
    "FiltersDeliveries": ("r2-deliveries-are-not-filtered", "nothing of the kind came"),
    "ForgetsWhatIsUnanswered": ("resent-after-a-cut", "nothing of the kind came"),
    "ForgetsWhomItReplaces": ("back-after-a-cut", "`replaces` is missing"),
    "GapsWithoutPosition": ("r1-gap", "`pos` is 19, not 21"),
    "GivesUpAtOnce": ("publish-refused-backoff", "the program was told what it should not be"),
    "HandsOverDoubles": ("r3-doubles", "`pos` is 5, not 6"),
    "IgnoresGaps": ("gap-of-each-reason", "`event` is 'message', not 'gap'"),
    "IsImpatient": ("pings-keep-it-alive", "dials server a"),
    "ListensWhileCatchingUp": ("r3-not-live", "`pos` is 5, not 6"),
    "LosesWhatWaits": ("published-while-away", "nothing of the kind came"),
    "MakesUpNewIds": ("resent-after-a-cut", "`message_id` is"),
    "MatchesDollarTopics": ("wildcards-pass-over-dollar-topics", "`pos` is 1, not 2"),
    "MergesPositions": ("r1-subscribed", "`after`"),
    "MistypesAField": ("from-last", "a broker refuses this as unsupported, field 'form'"),
    "NeverAnswersPings": ("ping-is-answered", "nothing of the kind came"),
    "OverlooksNewLogs": ("r6-a-message-of-a-new-log", "`event` is 'message', not 'gap'"),
    "OverrunsTheWindow": ("the-window", "2 are allowed (SPEC 3.4.12)"),
    "ResendsInAnyOrder": ("resent-in-order", "`data` is 3, not 1"),
    "ResumesAsNew": ("back-after-a-cut", "`after` is missing"),
    "ResumesFromTheStart": ("back-after-a-cut", "`after`"),
    "ResumesPastTheNewest": ("r4-every-log-for-itself", "`after`"),
    "ResumesSnapshots": ("r7-snapshot-is-asked-for-again", "`after` is {'m0-a': 9}, and should not"),
    "SaysTheEndAndComesBack": ("stop-4002-revoked", "dials server a, and should not"),
    "SendsTheLargestAgain": ("closed-with-1009", "`data` is"),
    "SettlesByGuess": ("answers-in-any-order", "nothing of the kind came"),
    "SharesDeliveries": ("r2-deliveries-have-one-owner", "`pos` is 5, not 6"),
    "StaysWhenDrained": ("drain-to-another-node", "dials server a, not b"),
    "StopsAtUnknownCodes": ("back-after-an-unknown-code", "nothing of the kind came"),
    "TriesWhatIsForbidden": ("publish-refused-for-good", "nothing of the kind came"),
    "UsesNumbersAgain": ("answers-in-any-order", "before the answer to the first (SPEC 1.13)"),
    "UsesSubsAgain": ("refused-now", "again on the same connection (SPEC 3.2.1)"),
    "WaitsForConnected": ("one-flight", "nothing of the kind came"),
    "WaitsForever": ("silence", "nothing of the kind came"),
}
#: The same for what is wrong with the Python client.
MUTANTS_FOUND_BY: Table = {
    "AcksWhatIsLost": ("deliveries-of-a-lost-connection", 'unread: {"type": "ack", '),
    "AsksForEver": ("taken-over", 'unread: {"type": "subscribe", '),
    "FetchesTokensAtOnce": ("one-token-at-a-time", "what it should not be"),
    "ForgetsItsWill": ("will-on-every-connection", "`will` is missing"),
    "ForgetsTerms": ("what-it-asks-for", "`max_attempts` is missing"),
    "KeepsItsToken": ("token-expired", "nothing of the kind came"),
    "KeepsWhatWasHanded": ("home-is-lost", 'unread: {"type": "ack", '),
    "LetsTokensExpire": ("renewed-while-connected", "nothing of the kind came"),
    "NeverHearsSilence": ("silence", "nothing of the kind came"),
    "NeverRejects": ("reject", "`reject` is missing"),
    "ReadsTheNewestOnly": ("page-by-page", "`after` is missing"),
    "StaysAtItsNode": ("from-one-node-to-another", ", not other"),
    "TellsEverybodyWhoIsThere": ("told-to-those-who-watch", "what it should not be"),
}


def test_every_plant_has_a_scenario_that_finds_it() -> None:
    assert set(FOUND_BY) == set(PLANTS)
    assert set(MUTANTS_FOUND_BY) == set(MUTATIONS)


@pytest.mark.parametrize(
    ("adapter", "table", "lanes"),
    [(PLANTS_ADAPTER, FOUND_BY, 9), (MUTANTS_ADAPTER, MUTANTS_FOUND_BY, 4)],  # most of the time they wait
    ids=["plants", "mutants"],
)
async def test_scenarios_find_what_they_are_about(adapter: Path, table: Table, lanes: int) -> None:
    names = list(table)
    found: dict[str, str] = {}
    async with trio.open_nursery() as nursery:
        for lane in range(lanes):
            nursery.start_soon(play_plants, adapter, table, names[lane::lanes], found)
    missed = [
        f"{name} in {where}: {found.get(name, 'not run')}"
        for name, (where, reason) in table.items()
        if reason not in found.get(name, "")
    ]
    assert not missed, "\n".join(missed)


async def play_plants(adapter: Path, table: Table, names: list[str], found: dict[str, str]) -> None:
    """One adapter process is all of them, one after the other; `found` is told why each has failed."""
    waiting = iter(names)
    await run(
        [scenario(table[name][0]) for name in names],
        python(adapter, *names),
        lambda result: found.update({next(waiting): result.failure.reason if result.failure else "passed"}),
        lanes=1,
        patience_seconds=PATIENCE_SECONDS,
    )
