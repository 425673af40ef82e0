"""docs/examples/editor: whoever types what and when, everybody ends with one text, and nothing typed is lost."""

import json
import random
from pathlib import Path

import pytest
import trio
import triode
from editor import Editor
from hypothesis import given
from hypothesis import strategies as st
from shared_text import Change, DoesNotFit, SharedText, apply, difference, parse, rebase, rebase_all

from tests.examples.programs import CONFIG, EXAMPLES, PATIENCE_SECONDS, Broker, broker_of, program

LETTERS = "aä😀 \n"
texts = st.text(LETTERS, max_size=12)


@st.composite
def changes_of(draw: st.DrawFn, text: str) -> Change:
    """A change that fits a text."""
    change: Change = []
    left = len(text)
    while draw(st.booleans()):
        inserted = draw(st.text("xyz", min_size=1, max_size=3))
        step = draw(st.sampled_from([inserted, *([n for n in (1, 2, -1, -2) if abs(n) <= left])]))
        change.append(step)
        left -= abs(step) if isinstance(step, int) else 0
    return change


@given(st.data(), texts)
def test_rebased_both_ways_two_changes_make_one_text(data: st.DataObject, text: str) -> None:
    mine, theirs = data.draw(changes_of(text)), data.draw(changes_of(text))
    one = apply(rebase(mine, theirs), apply(theirs, text))
    other = apply(rebase(theirs, mine, mine_first=True), apply(mine, text))
    assert one == other
    typed = [step for change in (mine, theirs) for step in change if isinstance(step, str)]
    assert sorted("".join(typed)) == sorted(c for c in one if c in "xyz")  # nothing that was typed is lost


@given(st.data(), texts)
def test_a_list_of_changes_is_rebased_as_it_was_made(data: st.DataObject, text: str) -> None:
    theirs = data.draw(changes_of(text))
    shown, mine = text, []
    for _ in range(data.draw(st.integers(0, 4))):
        mine.append(data.draw(changes_of(shown)))
        shown = apply(mine[-1], shown)
    rebased = apply(theirs, text)
    for change in rebase_all(mine, theirs):
        rebased = apply(change, rebased)
    moved = theirs
    for change in mine:
        moved = rebase(moved, change, mine_first=True)
    assert rebased == apply(moved, shown)


@given(texts, texts)
def test_difference_makes_one_text_of_another(old: str, new: str) -> None:
    assert apply(difference(old, new), old) == new


@pytest.mark.parametrize("data", [None, "x", {}, [0], [""], [True], [1.5], [None], [4], [-4], [3, -1], [[1]]])
def test_a_change_that_does_not_fit_is_none(data: object) -> None:
    with pytest.raises(DoesNotFit):
        apply(parse(data), "abc")


def test_a_whole_number_is_one_however_json_writes_it() -> None:
    shared = SharedText("abc", 1)
    assert not shared.take("m", json.loads('{"parent": 1.0, "changes": [[1.0, "x", -2e0]]}'))
    assert (shared.text, shared.version) == ("ax", 2)


@pytest.mark.parametrize(
    "data",
    [
        None,
        "x",
        {},
        {"parent": 0},
        {"parent": 0, "changes": []},
        {"parent": 1, "changes": [["x"]]},
        {"parent": False, "changes": [["x"]]},
        {"parent": 0, "changes": ["x"]},
        {"parent": 0, "changes": [["x"], [2]]},
        {"parent": 0, "changes": [["x"]] * 1_001},
    ],
)
def test_what_does_not_count_changes_nothing(data: object) -> None:
    shared = SharedText()
    assert not shared.take("m", data)
    assert (shared.text, shared.version) == ("", 0)


def test_an_operation_that_came_twice_counts_once() -> None:
    shared = SharedText()
    shared.edit(["abc"])
    operation = shared.next_operation()
    assert operation
    assert shared.take(operation.id, operation.data)
    assert not shared.take(operation.id, operation.data)
    assert (shared.text, shared.version, shared.next_operation()) == ("abc", 1, None)


def test_who_lost_the_race_tries_again_for_the_new_text() -> None:
    shared = SharedText("abc", 1)
    shared.edit([1, "x"])
    first = shared.next_operation()
    assert first
    shared.edit([2, "y"])
    assert not shared.take("another's", {"parent": 1, "changes": [[1, "Z"]]})
    assert not shared.take(first.id, first.data)
    second = shared.next_operation()
    assert second
    assert (second.parent, shared.text) == (2, "aZxybc")
    assert second.id != first.id
    assert shared.take(second.id, second.data)
    assert (shared.agreed, shared.pending) == ("aZxybc", [])


def test_vectors_hold() -> None:
    """Those of README.md for clients in any language."""
    vectors = json.loads((EXAMPLES / "editor" / "vectors.json").read_text(encoding="utf-8"))
    for case in vectors["rebase"]:
        assert rebase(case["mine"], case["theirs"]) == case["rebased"], case
        assert rebase(case["mine"], case["theirs"], mine_first=True) == case["mine_first"], case
        apply(case["rebased"], apply(case["theirs"], case["text"]))
    for case in vectors["logs"]:
        shared, counts = SharedText(), []
        for number, data in enumerate(case["messages"]):
            before = shared.version
            shared.take(f"m{number}", data)
            counts.append(shared.version > before)
        assert (counts, shared.text, shared.version) == (case["counts"], case["text"], case["version"]), case[
            "about"
        ]


async def type_at_random(editor: Editor, dice: random.Random, letter: str, times: int) -> None:
    """Insert one's letter so often, and delete here and there, while others do the same."""
    for _ in range(times):
        at = dice.randint(0, len(editor.text))
        editor.edit([*([at] if at else []), letter])
        if dice.random() < 0.2 and editor.text:
            at = dice.randrange(len(editor.text))
            editor.edit([*([at] if at else []), -1])
        if dice.random() < 0.7:
            await editor.changed()


async def all_agree(editors: list[Editor]) -> None:
    """Until nothing is pending anywhere and all are equally far."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not all(each.is_settled for each in editors) or len({each.version for each in editors}) > 1:
            async with trio.open_nursery() as nursery:
                for each in editors:
                    nursery.start_soon(first_change, each, nursery.cancel_scope)


async def first_change(editor: Editor, scope: trio.CancelScope) -> None:
    await editor.changed()
    scope.cancel()


async def test_editors_at_random_end_with_one_text_over_a_kill_of_the_broker(tmp_path: Path) -> None:
    """G2, G3, G4 at work; whoever comes later has the same text from the snapshot."""
    with broker_of(CONFIG, tmp_path) as broker:
        async with trio.open_nursery() as nursery:
            editors = []
            for _ in range(4):
                client = await enter(nursery, broker)
                editors.append(Editor(client, "random", snapshot_every=10))
                await nursery.start(editors[-1].run)
            for round_ in range(3):
                async with trio.open_nursery() as typing:
                    for n, editor in enumerate(editors):
                        typing.start_soon(type_at_random, editor, random.Random(n), "abcd"[n], 30)
                    if round_ == 1:  # in the middle of it
                        await editors[0].changed()
                        await trio.to_thread.run_sync(broker.kill)
                        await trio.to_thread.run_sync(broker.start)
                await all_agree(editors)
                assert len({each.text for each in editors}) == 1
            late = Editor(await enter(nursery, broker), "random")
            await nursery.start(late.run)
            assert late.version >= 10  # it began from a snapshot
            await all_agree([*editors, late])
            assert late.text == editors[0].text
            nursery.cancel_scope.cancel()


async def enter(nursery: trio.Nursery, broker: Broker) -> triode.Client:
    """A client that lives as long as the nursery."""

    async def live(task_status: trio.TaskStatus[triode.Client]) -> None:
        async with triode.connect(broker.socket_url) as client:
            task_status.started(client)
            await trio.sleep_forever()

    client: triode.Client = await nursery.start(live)
    return client


async def test_editors_in_two_terminals_show_one_text(broker: Broker) -> None:
    file, url = "editor/editor.py", broker.socket_url
    async with program(file, "notes", url) as ada, program(file, "notes", url) as bob:
        await ada.enter("from ada")
        assert "from ada" in await bob.until(lambda line: "ada" in line)
        await bob.enter("from bob")
        await ada.until(lambda line: "from bob" in line)
        await ada.end_of_input()
        await bob.end_of_input()
    async with program(file, "notes", url) as later:
        assert [await later.line() for _ in range(3)] == ["--- version 2", "from ada", "from bob"]
