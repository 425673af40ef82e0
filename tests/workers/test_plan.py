"""Which worker is to be what."""

import socket
from contextlib import closing
from typing import Any

import msgspec
import pytest
from triode_broker.config import Config, TopicRule
from triode_broker.edge.listeners import listen
from triode_broker.workers.plan import (
    Ports,
    Start,
    count_workers,
    dialled,
    hold_ports,
    plan,
    without_one_time_settings,
)

PEERS = ["127.0.0.1:5001", "127.0.0.1:5002", "127.0.0.1:5003"]


def planned(count: int = 3, **settings: Any) -> list[Start]:
    return plan(Config(**settings), Ports("127.0.0.1:7400", PEERS[:count]))


def test_worker_0_is_the_node_and_the_others_are_numbered() -> None:
    starts = planned(node="a")
    assert [start.config.node for start in starts] == ["a", "a-1", "a-2"]
    assert [(start.worker.number, start.worker.count, start.worker.host) for start in starts] == [
        (0, 3, "a"),
        (1, 3, "a"),
        (2, 3, "a"),
    ]


def test_each_knows_the_others_and_all_the_secret_nobody_else_has() -> None:
    starts = planned()
    for number, start in enumerate(starts):
        assert start.config.listen == "127.0.0.1:7400"
        assert start.config.cluster_listen == PEERS[number]
        assert start.config.seeds == tuple(f"ws://{peer}" for peer in PEERS if peer != PEERS[number])
    (secret,) = {start.worker.secret for start in starts}
    assert len(secret) >= 32
    assert secret != planned()[0].worker.secret


@pytest.mark.parametrize(
    "settings", [{"cluster_secret_file": "f"}, {"cluster_listen": "127.0.0.1:7401"}, {"seeds": ("ws://b:1",)}]
)
def test_a_secret_of_the_settings_holds_and_so_does_none_where_others_are_to_join(settings: Any) -> None:
    starts = planned(**settings)
    assert {start.worker.secret for start in starts} == {""}
    assert {start.config.cluster_secret_file for start in starts} == {settings.get("cluster_secret_file", "")}


@pytest.mark.parametrize(
    ("count", "shards", "durable"),
    [
        (3, 1, ("n1",)),
        (2, 5, ("n1", "n1-1", "n1", "n1-1", "n1")),
        (3, 2, ("n1", "n1-1")),
    ],
)
def test_worker_i_mod_n_holds_shard_i(count: int, shards: int, durable: tuple[str, ...]) -> None:
    starts = planned(count, data="d", durable_shards=shards)
    assert {start.config.durable for start in starts} == {durable}
    assert {start.config.durable_shards for start in starts} == {shards}


def test_without_files_nobody_holds_a_durable_shard() -> None:
    assert {start.config.durable for start in planned(durable_shards=3)} == {()}


def test_a_list_of_holders_names_the_same_nodes_however_many_workers_there_are() -> None:
    starts = planned(data="d", durable=("n0", "n1"), seeds=("ws://n0:7401",), cluster_listen="127.0.0.1:5001")
    assert {start.config.durable for start in starts} == {("n0", "n1")}
    assert all(start.config.seeds[0] == "ws://n0:7401" for start in starts)


def test_what_other_hosts_dial_is_counted_up() -> None:
    settings: dict[str, Any] = {"cluster_listen": "0.0.0.0:5001", "cluster_secret_file": "f"}
    starts = planned(cluster_advertise="ws://a.example:9001", **settings)
    assert [start.config.cluster_advertise for start in starts] == [
        "ws://a.example:9001",
        "ws://a.example:9002",
        "ws://a.example:9003",
    ]
    assert (
        planned(cluster_advertise="wss://[fd00::1]:1", **settings)[2].config.cluster_advertise
        == "wss://[fd00::1]:3"
    )


def test_one_worker_feeds_the_demo() -> None:
    assert [start.config.demo for start in planned(demo=True)] == [True, False, False]


def test_what_is_done_once_is_not_done_in_the_next_life() -> None:
    (start, *_) = planned(restored=True, create_store=True, data="d")
    again = without_one_time_settings(start)
    assert (again.config.restored, again.config.create_store) == (False, False)
    assert msgspec.structs.replace(again.config, restored=True, create_store=True) == start.config
    assert again.worker == start.worker


def test_a_start_survives_the_pipe() -> None:
    rules = (TopicRule(filter="a/#", storage="disk"), TopicRule(retention_seconds=5))
    for start in planned(data="d", durable_shards=2, topics=rules):
        assert msgspec.json.decode(msgspec.json.encode(start), type=Start) == start


def test_all_cores_are_at_least_one_worker() -> None:
    assert count_workers(Config(workers=0)) >= 1
    assert count_workers(Config(workers=5)) == 5


def test_ports_are_free_ones_or_those_of_the_settings() -> None:
    with closing(hold_ports(Config(listen="127.0.0.1:0"), 3)) as first:
        addresses = [first.listen, *first.peers]
        assert len({address.rpartition(":")[2] for address in addresses}) == 4
    settings = Config(listen=first.listen, cluster_listen=first.peers[0])
    with closing(hold_ports(settings, 1)) as again:
        assert (again.listen, again.peers) == (first.listen, first.peers[:1])


def test_a_port_that_is_taken_is_named() -> None:
    (taken,) = listen("127.0.0.1:0")
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    with taken, pytest.raises(OSError, match="in use") as caught:
        hold_ports(Config(listen="127.0.0.1:0", cluster_listen=address), 1)
    assert caught.value.filename == address


def test_peers_of_further_workers_have_the_ports_behind_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def reserve(address: str) -> tuple[list[socket.socket], str]:
        asked.append(address)
        return [], address

    monkeypatch.setattr("triode_broker.workers.plan.reserve", reserve)
    ports = hold_ports(Config(listen="127.0.0.1:7400", cluster_listen="[::1]:7401"), 3)
    assert ports.peers == asked[1:] == ["[::1]:7401", "[::1]:7402", "[::1]:7403"]


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:1", "ws://127.0.0.1:1"),
        ("0.0.0.0:1", "ws://127.0.0.1:1"),
        (":1", "ws://127.0.0.1:1"),
        ("[::]:1", "ws://[::1]:1"),
        ("[fd00::1]:1", "ws://[fd00::1]:1"),
        ("localhost:1", "ws://localhost:1"),
    ],
)
def test_siblings_dial_each_other_on_this_machine(address: str, url: str) -> None:
    assert dialled(address) == url
