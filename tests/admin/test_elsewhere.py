"""Administration of names that are at home on other nodes, without any other node."""

from collections.abc import Mapping
from typing import Any

import pytest
from triode_broker.admin.elsewhere import MAX_CARRIED_BYTES, for_others, from_anywhere
from triode_broker.admin.listener import BadCall, Call
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName


class Friends:
    """Two other nodes, n2 and n3: the second one says nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    def home_of(self, name: str) -> str:
        """By its first letters."""
        if name.startswith("nobody"):
            raise Refused(ErrorName.UNAVAILABLE, "nobody is known to own it")
        return name.partition("-")[0]

    async def ask(self, node: str, method: str, parameters: Mapping[str, Any]) -> Any:
        """Answers, or says that it cannot be asked."""
        self.asked.append((node, method, dict(parameters)))
        if method == "admin.subs.rewind":
            raise ValueError("to where?")
        return {"name": parameters["name"], "home": node}

    async def ask_all(self, method: str, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """One of two."""
        return {"n2": {"names": [{"name": "a", "home": "n2"}, {"name": "c", "home": "n2"}]}}, ["n3"]


async def own(parameters: Mapping[str, Any]) -> object:
    """This node's answer."""
    if name := parameters.get("name"):
        return {"name": name, "home": "n1"}
    return {"names": [{"name": "b", "home": "n1"}, {"name": "c", "home": "n1"}], "unanswered": []}


async def bad(parameters: Mapping[str, Any]) -> object:
    """Never answers."""
    raise BadCall("which name?")


def routed(friends: Friends | None = None) -> dict[str, Call]:
    """All calls of n1."""
    names = ("subs.list", "subs.show", "subs.rewind", "dead.list", "dead.drop")
    return from_anywhere("n1", dict.fromkeys(names, own), friends or Friends())


async def test_calls_about_a_name_go_to_its_home() -> None:
    friends = Friends()
    calls = routed(friends)
    assert await calls["subs.show"]({"name": "n1-x"}) == {"name": "n1-x", "home": "n1"}
    assert await calls["subs.show"]({"name": "n2-x"}) == {"name": "n2-x", "home": "n2"}
    assert await calls["dead.drop"]({"name": "n3-x", "positions": [1]}) == {"name": "n3-x", "home": "n3"}
    assert await calls["dead.list"]({"name": "n2-x", "limit": 5}) == {"name": "n2-x", "home": "n2"}
    assert friends.asked == [
        ("n2", "admin.subs.show", {"name": "n2-x"}),
        ("n3", "admin.dead.drop", {"name": "n3-x", "positions": [1]}),
        ("n2", "admin.dead.list", {"name": "n2-x", "limit": 5, "max_bytes": MAX_CARRIED_BYTES}),
    ]


@pytest.mark.parametrize("call", ["subs.list", "dead.list"])
async def test_lists_are_of_all_nodes_and_say_who_has_not_answered(call: str) -> None:
    answer: Any = await routed()[call]({"name": ""})
    assert [(one["name"], one["home"]) for one in answer["names"]] == [
        ("a", "n2"),
        ("b", "n1"),
        ("c", "n1"),
        ("c", "n2"),
    ]
    assert answer["unanswered"] == ["n3"]


async def test_what_cannot_be_asked_is_told_to_a_person() -> None:
    calls = routed()
    with pytest.raises(BadCall, match="which name"):
        await calls["subs.show"]({})
    with pytest.raises(BadCall, match="to where"):
        await calls["subs.rewind"]({"name": "n2-x", "to": "nowhere"})
    with pytest.raises(Refused, match="nobody is known"):
        await calls["subs.show"]({"name": "nobody-x"})


async def test_other_nodes_hear_of_bad_calls_as_such() -> None:
    methods = for_others({"subs.show": own, "subs.rewind": bad})
    assert await methods["admin.subs.show"]({"name": "x"}) == {"name": "x", "home": "n1"}
    with pytest.raises(ValueError, match="which name"):
        await methods["admin.subs.rewind"]({})
