"""Reads Autobahn's report index and judges it.

It must not know how the report came about, and it prints nothing: it returns text.

Surprising: only FAILED fails. NON-STRICT moves with timing (a peer that drops the connection
before its echo left), and the softer verdicts on closing are preferences of the suite, so an
exact count of any of them would make the gate flaky. A missing case fails, though: when a server
dies, the suite writes what it has and ends as if all were well.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import attrs
import msgspec

FAILED = "FAILED"
# In the order of the table; a verdict that is not named here follows them.
_VERDICTS = (
    "OK",
    "NON-STRICT",
    "INFORMATIONAL",
    "UNIMPLEMENTED",
    "UNCLEAN",
    "WRONG CODE",
    "FAILED BY CLIENT",
    FAILED,
)


class UnreadableReport(Exception):
    """There is no report index, or not one of the form this module knows."""


class CaseResult(msgspec.Struct, frozen=True, rename="camel"):
    """What the suite found in one case: the exchange, and how the connection was closed."""

    behavior: str
    behavior_close: str

    @property
    def failed(self) -> bool:
        """Whether the exchange or its close is FAILED, to the letter."""
        return FAILED in (self.behavior, self.behavior_close)


@attrs.frozen
class Summary:
    """One server's results by case id, and the number of cases that should be there."""

    results: Mapping[str, CaseResult]
    expected_cases: int

    @property
    def failed(self) -> list[str]:
        """The ids of the FAILED cases, in the suite's order."""
        return [case for case in self._ordered() if self.results[case].failed]

    @property
    def missing_cases(self) -> int:
        """How many cases have no result (negative: more came than were asked for)."""
        return self.expected_cases - len(self.results)

    @property
    def passed(self) -> bool:
        """Whether every case ran and none is FAILED."""
        return not self.failed and self.missing_cases == 0

    def table(self) -> str:
        """Return counts by verdict, then the ids of all cases that are not plainly OK."""
        exchange = Counter(result.behavior for result in self.results.values())
        close = Counter(result.behavior_close for result in self.results.values())
        seen = set(exchange) | set(close) | {"OK", FAILED}
        verdicts = [v for v in _VERDICTS if v in seen] + sorted(seen - set(_VERDICTS))
        lines = [f"{'verdict':<17}{'behavior':>9}{'close':>7}"]
        lines += [f"{v:<17}{exchange[v]:>9}{close[v]:>7}" for v in verdicts]
        for verdict in verdicts:
            if verdict not in ("OK", FAILED):
                lines.append(f"{verdict}: {' '.join(self._with(verdict))}")
        for case in self.failed:
            result = self.results[case]
            lines.append(f"{FAILED} {case} (behavior {result.behavior}, close {result.behavior_close})")
        return "\n".join(lines)

    def _ordered(self) -> list[str]:
        return sorted(self.results, key=lambda case: [int(part) for part in case.split(".")])

    def _with(self, verdict: str) -> list[str]:
        return [
            case
            for case in self._ordered()
            if verdict in (self.results[case].behavior, self.results[case].behavior_close)
        ]


def read_report(index: Path, agent: str, expected_cases: int) -> Summary:
    """Return the results of `agent` in a report's index.json; no result of it is an empty one.

    Raises UnreadableReport.
    """
    try:
        agents = msgspec.json.decode(index.read_bytes(), type=dict[str, dict[str, CaseResult]])
    except (OSError, msgspec.DecodeError) as error:
        raise UnreadableReport(f"{index}: {error}") from error
    return Summary(agents.get(agent, {}), expected_cases)
