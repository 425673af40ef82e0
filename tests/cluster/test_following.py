"""Following: whom a node remembers as the owner of shards."""

from tests.cluster.town import Town


def test_owners_that_membership_has_forgotten_are_forgotten() -> None:
    """Names come and go for as long as a process lives."""
    town = Town(3)
    following = town.citizens[0].cluster.following
    for number in range(5):
        following.owner(f"x{number}")
    assert list(following.owners) == ["n2", "n3", "x4"]
    following = town.citizens[1].cluster.following
    town.cut(town.citizens[1], town.citizens[2])
    town.cut(town.citizens[1], town.citizens[0])
    following.owner("x1")
    assert list(following.owners) == ["n1", "n3", "x1"], "they are remembered, and maybe come back"
