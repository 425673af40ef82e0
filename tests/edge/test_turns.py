"""Turns: what is noted of long ones, and what follows for all the others."""

from triode_broker.edge.turns import Nothing, Turns


def test_messages_of_short_turns_are_in_the_lowest_bucket() -> None:
    turns = Turns(Nothing())
    turns.count, turns.seconds, turns.published, turns.fanned_out = 4, 0.0002, 4, 40
    data = turns.as_data()
    assert data["turns"] == {"counts": [4] + [0] * 18, "sum_us": 200}
    assert data["published"] == {"counts": [4] + [0] * 18, "sum_us": 200}
    assert data["fanned_out"]["counts"][0] == 40


def test_long_turn_counts_what_came_while_it_went_on() -> None:
    turns = Turns(Nothing())
    turns.count, turns.seconds, turns.published, turns.fanned_out = 4, 0.00403, 10, 700
    turns.note(0.004, 7, 700)
    data = turns.as_data()
    assert (data["turns"]["counts"][0], data["turns"]["counts"][6]) == (3, 1)
    assert (data["published"]["counts"][0], data["published"]["counts"][6]) == (3, 7)
    assert data["fanned_out"]["counts"][6] == 700
    assert data["published"]["sum_us"] == 28_150


def test_edge_without_a_tally_counts_its_turns_alone() -> None:
    turns = Turns(Nothing())
    turns.count = 2
    assert sum(turns.as_data()["turns"]["counts"]) == 2
    assert sum(turns.as_data()["published"]["counts"]) == 0


async def test_what_another_task_does_at_once_is_a_turn_of_its_own() -> None:
    tally = Nothing()
    turns = Turns(tally)
    with turns.beside():
        tally.published += 3
        tally.fanned_out += 5
    tally.published += 7  # of somebody else
    data = turns.as_data()
    assert [sum(data[name]["counts"]) for name in ("turns", "published", "fanned_out")] == [1, 3, 5]
