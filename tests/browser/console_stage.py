"""What the console is shown: real nodes with the administration listener, and clients that do something there.

Knows how nodes are started and what a client sends, nothing of pages. The surprising decision: clients are plain
blocking sockets. The slow one among them reads nothing at all, which no good client can be made to do.
"""

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Final
from urllib.request import Request, urlopen

import jwt
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests import forking
from tests.edge.rig import HANDSHAKE, text

PATIENCE_SECONDS: Final = 30.0  # a bound, not a measure
ADMIN_SECRET: Final = "a-secret-of-operators-of-forty-characters"
SIGNING_SECRET: Final = "a-secret-that-signs-tokens-of-32-bytes-or-more"
EVERYTHING: Final = {kind: ["#"] for kind in ("publish", "subscribe", "presence", "history", "consume")}
CLUSTER: Final = """\
cluster_listen = "127.0.0.1:0"
cluster_secret_file = '{secret}'
seeds = {seeds}
durable = ["berlin", "paris"]
create_store = {create}
"""
SETTINGS: Final = """\
node = "{name}"
listen = "127.0.0.1:0"
data = '{folder}'
{cluster}
[admin]
listen = "127.0.0.1:0"
token_file = '{admin}'
[[tokens]]
name = "stage"
algorithm = "HS256"
key_file = '{signing}'
[[quotas]]
publishes_per_second = 0
bytes_per_second = 0
user_publishes_per_second = 0
user_bytes_per_second = 0
[[topics]]
filter = "jobs/#"
storage = "disk"
[limits]
max_outbox_bytes = 131072
"""


def secret(path: Path, text: str) -> Path:
    """A file that nobody else may read."""
    path.touch(0o600)
    path.write_text(text)
    return path


class Node:
    """`triode serve`, until `end`. `seeds`: of a cluster; None: it is alone."""

    def __init__(self, name: str, folder: Path, seeds: list[str] | None = None) -> None:
        own = folder / name
        own.mkdir()
        config = folder / f"{name}.toml"
        config.write_text(
            SETTINGS.format(
                name=name,
                folder=own,
                cluster="" if seeds is None else self._cluster(folder, seeds),
                admin=secret(folder / "admin", ADMIN_SECRET),
                signing=secret(folder / "signing", SIGNING_SECRET),
            )
        )
        clean = {key: value for key, value in os.environ.items() if not key.startswith("TRIODE_")}
        command = ["serve", "--config", str(config), "--log-format", "json"]
        self._process = forking.begin("triode", *command, env=clean, stderr=-1)
        self._lines: list[dict[str, Any]] = []
        self._came = Condition()
        self._reader = Thread(target=self._read)
        self._reader.start()
        self.name = name
        try:
            self.port = port_in(self.logged("started")["urls"])
            self.admin_port = port_in(self.logged("operators_served")["urls"])
            self.seed = ""
            if seeds is not None:
                self.seed = f"ws://127.0.0.1:{port_in(self.logged('peer_listening')['address'])}"
        except BaseException:
            self.end()
            raise

    def _cluster(self, folder: Path, seeds: list[str]) -> str:
        proof = secret(folder / "cluster", "of-the-cluster-" * 3)
        return CLUSTER.format(secret=proof, seeds=json.dumps(seeds), create=json.dumps(not seeds))

    @property
    def console(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.admin_port}/console"

    def _read(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            with self._came:
                self._lines.append(json.loads(line) if line.startswith("{") else {"event": line})
                self._came.notify_all()
        with self._came:
            self._lines.append({"event": "ended"})
            self._came.notify_all()

    def logged(self, event: str) -> dict[str, Any]:
        """The first line of this kind."""

        def found() -> dict[str, Any] | None:
            return next((one for one in self._lines if one["event"] in (event, "ended")), None)

        with self._came:
            line = self._came.wait_for(found, PATIENCE_SECONDS)
        assert line, self._lines
        assert line["event"] == event, self._lines
        return line

    def ask(self, path: str) -> dict[str, Any]:
        """What its operators' HTTP answers."""
        request = Request(
            f"http://127.0.0.1:{self.admin_port}{path}", headers={"Authorization": f"Bearer {ADMIN_SECRET}"}
        )
        with urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            said: dict[str, Any] = json.load(answer)
        return said

    def wait_for_cluster(self, count: int) -> None:
        """Until so many nodes reach the owners of all shards."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            views = self.ask("/v1/cluster")["nodes"]
            reached = [shard["reached"] for view in views for shard in view["shards"]]
            if len(views) == count and all(reached):
                return
            assert time.monotonic() < deadline, views

    def end(self) -> None:
        """Whatever its state, it is gone afterwards."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr
        self._process.stderr.close()


def port_in(said: object) -> int:
    """The last one that is named."""
    return int(re.findall(r"\d+", str(said))[-1])


@contextmanager
def one_node(folder: Path) -> Iterator[Node]:
    """In no cluster."""
    node = Node("berlin", folder)
    try:
        yield node
    finally:
        node.end()


@contextmanager
def two_nodes(folder: Path) -> Iterator[tuple[Node, Node]]:
    """One cluster, both of its nodes known to each other."""
    nodes: list[Node] = []
    try:
        nodes.append(Node("berlin", folder, []))
        nodes.append(Node("paris", folder, [nodes[0].seed]))
        nodes[0].wait_for_cluster(2)
        yield nodes[0], nodes[1]
    finally:
        for node in nodes:
            node.end()


def token(user: str, tenant: str = "", **claims: object) -> str:
    """Whoever shows it may do everything."""
    now = int(time.time())
    said = {"sub": user, "iat": now, "exp": now + 3_600, "permissions": EVERYTHING, **claims}
    return jwt.encode({**said, **({"tenant": tenant} if tenant else {})}, SIGNING_SECRET, "HS256")


class Client:
    """A connected client that says packets and hears packets."""

    def __init__(self, node: Node, user: str, tenant: str = "", **claims: object) -> None:
        protocol = [Subprotocol("triode.v1.json")]
        self._stay = ExitStack()
        url = f"ws://127.0.0.1:{node.port}/ws"
        self._socket: ClientConnection = self._stay.enter_context(
            connect(url, subprotocols=protocol, compression=None, max_size=None)
        )
        self._number = 1
        self._heard: list[dict[str, Any]] = []
        self.say(type="connect", token=token(user, tenant, **claims))
        self.hear("connected")

    def say(self, **packet: object) -> None:
        """One packet."""
        self._socket.send(json.dumps(packet))

    def hear(self, kind: str) -> dict[str, Any]:
        """The next packet of this type; others are kept for later."""
        while not (found := next((packet for packet in self._heard if packet["type"] == kind), None)):
            said = json.loads(self._socket.recv(PATIENCE_SECONDS))
            self._heard += said if isinstance(said, list) else [said]
            assert self._heard[-1]["type"] != "error", self._heard
        self._heard.remove(found)
        return found

    def ask(self, type: str, answer: str, **packet: object) -> dict[str, Any]:
        """Say it with an id, and hear what answers it."""
        self._number += 1
        self.say(type=type, id=self._number, **packet)
        return self.hear(answer)

    def publish(self, topic: str, data: object, **more: object) -> None:
        """And hear that it was taken."""
        self.ask("publish", "published", topic=topic, data=data, **more)

    def subscribe(self, filter: str, **more: object) -> None:
        """With a number of its own."""
        self.ask("subscribe", "subscribed", sub=self._number + 1, filter=filter, **more)

    def closed_with(self) -> int:
        """The code by which the broker ends it."""
        with suppress(ConnectionClosed):
            while True:
                self._socket.recv(PATIENCE_SECONDS)
        return self._socket.close_code or 0

    def close(self) -> None:
        """Go."""
        self._stay.close()


class Deaf:
    """A client that subscribes and reads nothing from then on."""

    def __init__(self, node: Node, user: str, filter: str) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.connect(("127.0.0.1", node.port))
        packets = (
            {"type": "connect", "token": token(user)},
            {"type": "subscribe", "id": 1, "sub": 1, "filter": filter},
        )
        self._socket.sendall(HANDSHAKE + b"".join(text(json.dumps(packet)) for packet in packets))
        said = b""
        while b'"subscribed"' not in said:
            said += self._socket.recv(4_096)

    def close(self) -> None:
        """Go."""
        self._socket.close()
