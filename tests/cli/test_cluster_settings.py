"""Settings of a cluster and of workers: what follows from what, and contradictions told in sentences that help."""

from pathlib import Path

import pytest
from triode_broker.cli.settings import BadSettings, load
from triode_broker.cluster.secret import BadSecret, read_secret
from triode_broker.config import Config
from triode_broker.secrets_on_disk import is_too_open

SECRET = "hXQ3cFz5nqv0Wj8pA1sLrg=="


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file as it should be."""
    file = tmp_path / "cluster.secret"
    file.touch(0o600)
    file.write_text(f"{SECRET}\n")
    return file


def problems(**flags: object) -> list[str]:
    with pytest.raises(BadSettings) as caught:
        load(flags)
    return caught.value.problems


def test_nodes_of_one_machine_need_nothing_but_ports() -> None:
    config = load({"seeds": ["ws://localhost:7411"]}).config
    assert config.cluster_listen == "127.0.0.1:7401"
    for host in ("localhost", "127.0.0.5", "[::1]"):
        assert load({"cluster_listen": host}).config.cluster_listen == f"{host}:7401"


def test_nodes_of_several_machines_share_a_secret(secret: Path) -> None:
    flags = {"cluster_listen": "10.0.0.1", "cluster_secret_file": str(secret), "data": "d", "durable": ["n1,n2"]}
    config = load({**flags, "seeds": ["ws://n2.example:7401,wss://[fd00::3]:7401/"]}).config
    assert (config.cluster_listen, config.durable_shards) == ("10.0.0.1:7401", 2)


@pytest.mark.parametrize("address", ["0.0.0.0:7401", ":7401", "[::]:7401", "10.0.0.1", "n1.example"])
def test_an_address_that_others_reach_needs_a_secret(address: str) -> None:
    (problem,) = problems(cluster_listen=address, cluster_advertise="ws://n1.example:7401")
    assert problem.startswith(
        f"--cluster-listen: cluster_listen = {Config(cluster_listen=address).cluster_listen!r}".replace("'", '"')
    )
    assert "nodes must prove that they belong here: --cluster-secret-file FILE; make one: (umask 077; " in problem


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        ("n2:7401", "is not a ws:// or wss:// URL, like ws://10.0.0.2:7401"),
        ("http://n2:7401", "is not a ws:// or wss:// URL"),
        ("ws://:7401", "is not a ws:// or wss:// URL"),
        ("ws://n2:port", "is not a ws:// or wss:// URL"),
        ("ws://n2:65536", "is not a ws:// or wss:// URL"),
        ("ws://n2:0", "is not a ws:// or wss:// URL"),
        ("ws://[::1:7401", "is not a ws:// or wss:// URL"),
        ("ws://n 2:7401", "is not a ws:// or wss:// URL"),
        ("ws://n2", "has no port: write ws://HOST:PORT"),
        ("ws://n2:7401/ws", "has a path, and nodes have none"),
        ("ws://u:p@n2:7401", "holds more than scheme, host, port and path"),
        ("ws://n2:7401/?a=1", "holds more than scheme, host, port and path"),
    ],
)
def test_a_seed_that_is_no_address_of_a_node_is_told(seed: str, words: str) -> None:
    (problem,) = problems(seeds=[seed])
    assert problem.startswith(f'--seed: seeds: "{seed}" ')
    assert words in problem
    (problem,) = problems(cluster_listen="localhost", cluster_advertise=seed)
    assert problem.startswith(f'--cluster-advertise: cluster_advertise: "{seed}" ')


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"seeds": ["ws://localhost:1", "ws://localhost:1"]}, '--seed: seeds: "ws://localhost:1" is there twice'),
        ({"cluster_listen": "::1:7401"}, "an IPv6 address stands in brackets"),
        ({"cluster_listen": "localhost:65536"}, "'localhost:65536' is not an address"),
        ({"cluster_listen": "127.0.0.1:7400"}, 'clients come in there: "127.0.0.1:7400" is `listen`'),
        ({"cluster_listen": "127.0.0.1:7398", "workers": "3"}, 'clients come in there: "127.0.0.1:7400" is'),
        ({"cluster_listen": "localhost:65535", "workers": "2"}, "each worker takes one port for its peers"),
        ({"cluster_advertise": "ws://a:1"}, "there is no cluster; --cluster-listen HOST:7401 makes this node one"),
        ({"advertise": "a.example/ws"}, "is not a ws:// or wss:// URL, like wss://broker.example.org/ws"),
        ({"durable": ["n1,n2"], "data": "d"}, "names other nodes, and there is no cluster"),
        ({"durable": ["n1"]}, "--durable: durable: this node, n1, holds d0 and needs a directory for it: --data"),
        (
            {"seeds": ["ws://localhost:1"], "durable": ["n2", "n2"]},
            "durable: n2 is there twice, and a node holds one durable shard",
        ),
        (
            {"seeds": ["ws://localhost:1"], "durable": ["n2,n3"], "durable_shards": 3},
            "durable_shards = 3: durable names 2 nodes, and each holds one shard",
        ),
        (
            {"seeds": ["ws://localhost:1"], "data": "d"},
            "and all the same: --durable n1,n2 (here, if nobody else does: --durable n1)",
        ),
        ({"create_store": True}, "--create-store: create_store = true: of which data? give its directory"),
        ({"workers": "many"}, '--workers: workers = "many": allowed is a whole number from 0 to 256'),
        ({"workers": "2", "node": "n" * 61}, "workers add a number to it: allowed are 60 characters"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_told(flags: dict[str, object], words: str) -> None:
    (problem,) = problems(**flags)
    assert words in problem


def test_a_node_that_holds_no_durable_shard_needs_no_directory_for_topics_on_disk(tmp_path: Path) -> None:
    file = tmp_path / "triode.toml"
    file.write_text('durable = ["n2", "n3"]\nseeds = ["ws://localhost:7411"]\n[[topics]]\nstorage = "disk"')
    assert load(file=file).config.data == ""


@pytest.mark.parametrize(
    ("listen", "advertised"),
    [
        ("10.0.0.1:5", "ws://10.0.0.1:5"),
        ("[fd00::1]", "ws://[fd00::1]:7401"),
        ("n1.example", "ws://n1.example:7401"),
        ("localhost:0", ""),
        ("0.0.0.0", ""),
    ],
)
def test_nodes_are_dialled_where_they_listen_if_that_is_one_place(listen: str, advertised: str) -> None:
    assert Config(cluster_listen=listen).cluster_advertise == advertised
    assert Config(cluster_listen=listen, cluster_advertise="ws://a:1").cluster_advertise == "ws://a:1"


@pytest.mark.parametrize("everywhere", ["0.0.0.0", ":7401", "[::]"])
def test_a_node_that_listens_everywhere_says_where_it_is_dialled(everywhere: str, secret: Path) -> None:
    (problem,) = problems(cluster_listen=everywhere, cluster_secret_file=str(secret))
    assert problem.endswith("others have to be told one address of this node: --cluster-advertise ws://HOST:7401")


def test_a_seed_on_another_machine_must_be_able_to_dial_back() -> None:
    (problem,) = problems(seeds=["ws://n2.example:7401"])
    assert problem == (
        '--seed: seeds: "ws://n2.example:7401" is on another machine, from where 127.0.0.1:7401 cannot be reached:'
        " --cluster-listen HOST:7401"
    )
    assert load({"seeds": ["wss://n2.example:443"], "cluster_advertise": "wss://n1.example:443"}).config


def test_a_secret_is_what_the_file_holds_without_its_line_end(secret: Path) -> None:
    assert read_secret(str(secret)) == SECRET.encode()


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ("", 0o600, "is empty; make one: (umask 077; head -c 32 /dev/urandom | base64 > "),
        (" \n", 0o600, "is empty; make one"),
        ("short", 0o600, "holds 5 bytes, fewer than 16; make one"),
        ("x" * 5_000, 0o600, "holds more than 4096 bytes: hardly a secret"),
        (SECRET, 0o640, "others of this machine may read it: chmod 600"),
        (SECRET, 0o604, "others of this machine may read it: chmod 600"),
    ],
)
def test_a_file_that_holds_no_secret_is_told(content: str, mode: int, words: str, secret: Path) -> None:
    secret.write_text(content)
    secret.chmod(mode)
    (problem,) = problems(cluster_listen="10.0.0.1", cluster_secret_file=str(secret))
    assert problem.startswith(f'--cluster-secret-file: cluster_secret_file = "{secret}": {words}')


def test_a_secret_that_is_not_there_or_no_file_is_told(tmp_path: Path) -> None:
    (problem,) = problems(cluster_listen="10.0.0.1", cluster_secret_file=str(tmp_path / "none"))
    assert "there is no such file; make one: " in problem
    with pytest.raises(BadSecret, match="cannot be read: Is a directory"):
        read_secret(str(tmp_path))


def test_a_secret_without_a_cluster_is_told_but_for_workers(secret: Path) -> None:
    (problem,) = problems(cluster_secret_file=str(secret))
    assert "there is no cluster" in problem
    assert load({"cluster_secret_file": str(secret), "workers": "2"}).config.workers == 2


@pytest.mark.parametrize(
    ("mode", "owner", "user", "is_open"),
    [
        (0o100400, 1000, 1000, False),
        (0o100440, 1000, 1000, True),
        (0o100440, 0, 1000, False),  # a mounted secret: root's, readable by the group this process is in
        (0o100460, 0, 1000, True),
        (0o100444, 0, 1000, True),
        (0o100440, 0, 0, True),
    ],
)
def test_a_secret_is_for_its_owner_or_for_the_group_root_gave_it_to(
    mode: int, owner: int, user: int, is_open: bool
) -> None:
    assert is_too_open(mode, owner, user) == is_open
