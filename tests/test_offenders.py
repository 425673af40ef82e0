"""Who floods is told of, and cannot make it a flood of lines (S8, S27)."""

from triode_broker.core.identity import Identity
from triode_broker.offenders import MOST_TOLD, QUIET_MS, Offenders

from tests.edge.rig import Log

ANN = Identity("ann", "acme", method="token")


def test_an_offender_is_told_of_once_in_a_while_and_the_rest_counted() -> None:
    now = [0]
    log = Log()
    offenders = Offenders(log.warning, lambda: now[0])
    for refused in range(1_000):
        offenders.tell("rate_limited", ANN, "192.0.2.1", "publishes_per_second", refused=refused)
    who = {"limit": "publishes_per_second", "user": "ann", "tenant": "acme", "address": "192.0.2.1"}
    assert log.entries == [("rate_limited", {**who, "refused": 0})]
    now[0] += QUIET_MS
    offenders.tell("rate_limited", ANN, "192.0.2.1", "publishes_per_second", refused=7)
    assert log.entries[1:] == [("rate_limited", {**who, "refused": 7, "more_like_it": 999})]


def test_one_offender_does_not_hide_another_and_a_thousand_are_few_lines() -> None:
    log = Log()
    offenders = Offenders(log.warning, lambda: 0)
    for number in range(1_000):
        offenders.tell("rate_limited", ANN, f"192.0.2.{number}", "publishes_per_second")
        offenders.tell("closed_for_rate", ANN, "", "publishes_per_second")
    assert log.events.count("rate_limited") == MOST_TOLD
    assert log.events.count("closed_for_rate") == 1


def test_s27_names_are_shown_as_text() -> None:
    log = Log()
    Offenders(log.warning, lambda: 0).tell(
        "rate_limited", Identity("a\u202eb\x1b" + "x" * 200), "", "bytes_per_second"
    )
    ((_, facts),) = log.entries
    assert facts["user"].startswith("a\\u202eb\\u001bxxx")
    assert len(facts["user"]) < 110
