"""Scenarios: what a file of protocol/scenarios holds, as types; reading them, and the schema that is made of them.

Knows the form of a scenario, not how it is played. The surprising decision: a step is an object that is known by
its one verb (`{"cut": true}`), not by a tag. People write these files by hand.
"""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from triode_broker.conformance.lines import FEATURES

Pattern = dict[str, Any]
Packet = dict[str, Any]
#: A server by name; or any of them, or another or the same one as that of the last connection.
Server = Literal["a", "b", "c", "any", "other", "same"]
Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_]*$")]
Slug = Annotated[str, Meta(pattern="^[a-z0-9]+(-[a-z0-9]+)*$")]
Clause = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+){1,2}$")]


class Step(Struct, forbid_unknown_fields=True, omit_defaults=True, rename={"as_": "as"}, kw_only=True):
    """One step. `note` is for readers of the file."""

    note: str = ""


class Do(Step):
    """The program does something: a command for the adapter. `connect` without `urls` goes to server `a`."""

    do: dict[str, Any]


class Report(Step):
    """The program is told: the next report of that subscription, of that `ref`, or of that kind."""

    report: Pattern


class Accept(Step):
    """The next connection is accepted: handshake, `connect`, `connected`. `accept`: fields of the latter."""

    accept: Packet
    connect: Pattern = {}
    at: Server = "a"


class Open(Step):
    """The next connection's handshake is accepted, and no more is done."""

    open: Literal[True]
    at: Server = "a"


class Refuse(Step):
    """The next connection's handshake is answered with this HTTP status."""

    refuse: Annotated[int, Meta(ge=200, le=599)]
    headers: dict[str, str] = {}
    body: str = ""
    at: Server = "a"


class Hang(Step):
    """The next connection's handshake is never answered."""

    hang: Literal[True]
    at: Server = "a"


class Blurt(Step):
    """The next connection's handshake is answered with this text, whatever it is, and the line is dropped."""

    blurt: str
    at: Server = "a"


class Expect(Step):
    """The client's next packet. `as` keeps it: `"$name.id"` is then its id."""

    expect: Pattern
    as_: Name = ""


class ExpectAll(Step):
    """The client's next packets, in any order. `as` names them in the order of the patterns."""

    expect_all: Annotated[list[Pattern], Meta(min_length=1)]
    as_: list[Name] = []


class Allow(Step):
    """From here on packets like these may come at any time, and are passed over where nobody expects them."""

    allow: list[Pattern]


class Answer(Step):
    """The broker answers the packet that was expected last, or the one kept as `to`, with its `id` and `sub`."""

    answer: Packet
    to: Name = ""


class Send(Step):
    """The broker sends a packet, or several, each in a message of its own."""

    send: Packet | Annotated[list[Packet], Meta(min_length=1)]


class SendTogether(Step):
    """The broker sends packets as one array; one by one where the client has not offered `batch` (SPEC 1.5)."""

    send_together: Annotated[list[Packet], Meta(min_length=1)]


class SendText(Step):
    """The broker sends a text message, whatever it is."""

    send_text: str


class SendBinary(Step):
    """The broker sends a binary message, in hex."""

    send_binary: str


class Dribble(Step):
    """From here on the broker's bytes come in pieces of so many; 0: as usual."""

    dribble: Annotated[int, Meta(ge=0)]


class Bye(Step):
    """The broker says `bye` and closes with its `code`."""

    bye: Packet


class CloseWith(Step):
    """The broker closes with a code and no word before."""

    close: Annotated[int, Meta(ge=1000, le=4999)]


class Cut(Step):
    """The line is dropped."""

    cut: Literal[True]


class Freeze(Step):
    """From here on the connection is half open: it looks alive, and nothing comes through either way."""

    freeze: Literal[True]


class Gone(Step):
    """The client ends the connection; with `code`, by a close with it."""

    gone: Literal[True]
    code: int = 0


class Quiet(Step):
    """For so many ms nothing happens: no packet, no connection, no report. For what must never come."""

    quiet: Annotated[int, Meta(ge=1, le=1000)]


STEPS: Final[dict[str, type[Step]]] = {
    "do": Do,
    "report": Report,
    "accept": Accept,
    "open": Open,
    "refuse": Refuse,
    "hang": Hang,
    "blurt": Blurt,
    "expect": Expect,
    "expect_all": ExpectAll,
    "allow": Allow,
    "answer": Answer,
    "send": Send,
    "send_together": SendTogether,
    "send_text": SendText,
    "send_binary": SendBinary,
    "dribble": Dribble,
    "bye": Bye,
    "close": CloseWith,
    "cut": Cut,
    "freeze": Freeze,
    "gone": Gone,
    "quiet": Quiet,
}


class Scenario(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One conversation. `shows`: clauses of SPEC.md. `needs`: what a client may lack."""

    name: Slug
    about: str
    shows: Annotated[list[Clause], Meta(min_length=1)]
    steps: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    needs: list[str] = []
    group: str = ""  # the name of its file, set when read

    def script(self) -> list[Step]:
        """Its steps. Raises ValueError."""
        return [_step(step, f"{self.name}, step {number}") for number, step in enumerate(self.steps, 1)]

    def servers(self) -> list[str]:
        """The servers that it needs: those whose URLs it uses, and `a`."""
        text = msgspec.json.encode(self.steps).decode()
        named = (name for name in ("b", "c") if f'"$url_{name}"' in text or f'"at":"{name}"' in text)
        return ["a", *named]


class Group(Struct, forbid_unknown_fields=True, rename={"schema": "$schema"}):
    """A file of scenarios."""

    about: str
    scenarios: Annotated[list[Scenario], Meta(min_length=1)]
    schema: str = ""


def _step(step: dict[str, Any], at: str) -> Step:
    verbs = [verb for verb in STEPS if verb in step]
    if len(verbs) != 1:
        raise ValueError(f"{at}: a step has one verb, not {', '.join(verbs) or 'none'}")
    try:
        return msgspec.convert(step, STEPS[verbs[0]])
    except msgspec.ValidationError as error:
        raise ValueError(f"{at}: {error}") from error


def parse(text: bytes, group: str) -> list[Scenario]:
    """The scenarios of a file. Raises ValueError."""
    try:
        scenarios = msgspec.json.decode(text, type=Group).scenarios
    except msgspec.MsgspecError as error:
        raise ValueError(f"{group}: {error}") from error
    for scenario in scenarios:
        scenario.group = group
        scenario.script()
        if unknown := sorted(set(scenario.needs) - FEATURES.keys()):
            raise ValueError(f"{scenario.name}: needs what is no feature: {', '.join(unknown)}")
    return scenarios


def shipped() -> list[Scenario]:
    """All scenarios of this version, in order. Raises ValueError."""
    return read(folder())


def folder() -> Path:
    """Where they lie: beside this module in an installed package, in protocol/scenarios in the source tree."""
    installed = Path(str(files("triode_broker.conformance"))) / "scenarios"
    if installed.is_dir():
        return installed
    return Path(__file__).parents[3] / "protocol" / "scenarios"


def read(where: Path) -> list[Scenario]:
    """The scenarios of a folder, or of one file. Raises ValueError and OSError."""
    paths: Iterable[Path] = sorted(where.glob("*.json")) if where.is_dir() else [where]
    found = [
        scenario
        for path in paths
        if not path.name.endswith(".schema.json")
        for scenario in parse(path.read_bytes(), path.stem)
    ]
    names = [scenario.name for scenario in found]
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"more than one scenario is called {', '.join(double)}")
    return found


def schema() -> dict[str, Any]:
    """JSON Schema of a file of scenarios."""
    (root, *_), components = msgspec.json.schema_components(
        [Group, *STEPS.values()], ref_template="#/$defs/{name}"
    )
    definitions = components | {
        "Step": {"oneOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in STEPS.values()]}
    }
    definitions["Scenario"]["properties"]["steps"]["items"] = {"$ref": "#/$defs/Step"}
    definitions["Scenario"]["properties"]["needs"]["items"] = {"enum": sorted(FEATURES)}
    del definitions["Scenario"]["properties"]["group"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": definitions}
