"""What `triode check` says of a node that runs: as it says of itself, over the socket or HTTP, and by its clock.

Knows administration calls and health. The surprising decision: the clock is compared with the middle between
question and answer, and half of the time between them is what is not known: so a slow network is no wrong clock.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from triode_broker.cli.asking import Asked
from triode_broker.cli.exit_codes import Failure
from triode_broker.cli.finding import Finding, fail, ok, warn

#: Tokens have so much leeway by default, and so have retention and delays.
MAX_APART_MS: Final = 2_000
DESCRIPTORS_LEFT: Final = 0.8  # of all there are
MAX_LOOP_LAG_US: Final = 250_000

Clock = Callable[[], float]


def node(asked: Asked, clock: Clock = time.time) -> Iterator[Finding]:
    """Of all nodes that answer."""
    began = clock()
    try:
        answer = asked.call("figures")
    except Failure as failure:
        yield fail("node", str(failure), "is it running, and may you ask it?")
        return
    took_ms, now_ms = (clock() - began) * 1_000, (clock() + began) * 500
    for name in answer["unanswered"]:
        yield fail("node", f"{name}: no answer", "is it running, and does a link lead there? (triode cluster)")
    for name, one in sorted(answer["nodes"].items()):
        yield from _one(name, one)
        yield apart(f"{name}'s clock", one["at_ms"] - now_ms, took_ms / 2)
    versions = sorted({f"{one['version']} {one['commit']}".rstrip() for one in answer["nodes"].values()})
    if len(versions) > 1:
        yield warn("versions", f"nodes run {', '.join(versions)}", "finish the upgrade")
    yield from _cluster(asked)


def _one(name: str, one: Mapping[str, Any]) -> Iterator[Finding]:
    gauges = one["gauges"]
    if one["unready"]:
        yield fail(
            "node", f"{name} is not ready: {', '.join(one['unready'])}", "docs/health.md says what that means"
        )
    else:
        yield ok("node", f"{name} is ready, version {one['version']}, {gauges['connections']:,} connections")
    most = gauges.get("max_descriptors", 0)
    if most > 0 and gauges["open_descriptors"] > DESCRIPTORS_LEFT * most:
        what = f"{name}: {gauges['open_descriptors']:,} of {most:,} files are open"
        yield warn("descriptors", what, "LimitNOFILE= in the systemd unit, or more nodes")
    if gauges["loop_lag_us"] > MAX_LOOP_LAG_US:
        what = f"{name}: its loop is {gauges['loop_lag_us'] / 1000:.0f} ms late"
        yield warn("load", what, "it has more to do than one core can: more workers, or more nodes")
    for engine in one["engines"]:
        if engine["state"] != "ok":
            what = f"{name}: store {engine['engine']} is {engine['state']}"
            advice = (
                "make room" if engine["state"] == "full" else "the log says why; restart it when that is mended"
            )
            yield fail("disk", what, advice)
        if engine["damaged_messages"]:
            what = f"{name}: {engine['damaged_messages']} messages of {engine['engine']} are damaged"
            yield warn("disk", what, "they are passed over; look at the disk")


def _cluster(asked: Asked) -> Iterator[Finding]:
    try:
        view = asked.call("cluster")
    except Failure:
        return  # it is in none
    for name, texts in view["degraded"].items():
        for text in texts:
            yield warn("cluster", f"{name}: {text}", "triode cluster shows links, owners and drift")
    for name in view["missing"]:
        yield fail("cluster", f"{name} is not reached", "triode cluster shows links, owners and drift")
    if not view["agreed"]:
        yield warn(
            "cluster", "the nodes do not agree on who owns what", "a change is on its way, or a link is missing"
        )
    drifting = {one for each in view["nodes"] for link in each["links"] for one in link["drift"]}
    if drifting:
        yield warn(
            "cluster", f"{', '.join(sorted(drifting))} differ", "all nodes should have them alike; triode reload"
        )
    if view["agreed"] and not (view["missing"] or view["degraded"] or drifting):
        yield ok("cluster", f"{len(view['nodes'])} nodes agree")


def apart(whose: str, ms: float, unknown_ms: float) -> Finding:
    """How far a clock is from this machine's."""
    far = max(abs(ms) - unknown_ms, 0)
    if far > MAX_APART_MS:
        advice = "set both by NTP (timedatectl, chronyc): tokens, retention and delays go by them"
        return warn(
            "clock", f"{whose} is {abs(ms) / 1000:.1f} s {'ahead of' if ms > 0 else 'behind'} this one", advice
        )
    return ok(
        "clock", f"{whose} is right to {max(unknown_ms, 1):.0f} ms" if unknown_ms > abs(ms) else f"{whose} fits"
    )


def http_date(date: str, began: float, ended: float) -> Finding:
    """By the `Date` of an HTTP answer, which knows seconds only."""
    try:
        at = parsedate_to_datetime(date).timestamp() + 0.5
    except ValueError:
        return warn("clock", "the answer has no Date", "name another URL")
    middle = (began + ended) / 2
    return apart("the clock there", (at - middle) * 1_000, 500 + (ended - began) * 500)
