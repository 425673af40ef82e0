"""SPEC 1.19 with libraries that are not ours: websockets, and ws under Node.js. (A browser: tests/browser.)"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.sync.client import connect

from tests.security.victim import PATIENCE_SECONDS, Victim

CLIENT = Path(__file__).parents[2] / "clients" / "js"
SAID = {"rows": ["ä😀 and the same words again"] * 200}
PACKETS = [
    {"type": "connect", "id": 1, "capabilities": ["batch"]},
    {"type": "subscribe", "id": 2, "sub": 1, "filter": "a"},
    {"type": "publish", "topic": "a", "data": SAID},
    {"type": "publish", "topic": "a", "data": SAID},
    {"type": "unsubscribe", "id": 3, "sub": 1},
]
NODE = """
import WebSocket from "ws";
const socket = new WebSocket(process.argv[1], "triode.v1.json", { perMessageDeflate: { threshold: 0 } });
const heard = [];
socket.on("open", () => JSON.parse(process.argv[2]).forEach((packet) => socket.send(JSON.stringify(packet))));
socket.on("message", (data) => {
  heard.push(JSON.parse(data));
  if (heard.length === 5) {
    console.log(JSON.stringify({ heard, extensions: socket.extensions }));
    socket.close();
  }
});
"""


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """Compresses."""
    victim = Victim(tmp_path_factory.mktemp("victim"))
    yield victim
    assert victim.end() == 0


@pytest.mark.parametrize("window", [None, 12, 15])
def test_websockets_reads_and_writes_it(victim: Victim, window: int | None) -> None:
    """Its own default is 12, the smallest window that is offered here."""
    extension = ClientPerMessageDeflateFactory(server_max_window_bits=window, client_max_window_bits=True)
    url = f"ws://{victim.host}:{victim.port}/ws"
    with connect(url, extensions=[extension], compression=None, open_timeout=PATIENCE_SECONDS) as websocket:
        (agreed,) = websocket.protocol.extensions
        assert isinstance(agreed, PerMessageDeflate)
        assert agreed.remote_no_context_takeover
        assert agreed.local_no_context_takeover
        for packet in PACKETS:
            websocket.send(json.dumps(packet))
        heard = [json.loads(websocket.recv(PATIENCE_SECONDS)) for _ in range(5)]
    assert [packet.get("data") for packet in heard[2:4]] == [SAID, SAID]


def test_ws_under_node_reads_and_writes_it(victim: Victim) -> None:
    if shutil.which("node") is None or not (CLIENT / "node_modules" / "ws").exists():
        pytest.skip("needs Node.js and npm install in clients/js")
    command = [
        "node",
        "--input-type=module",
        "-e",
        NODE,
        f"ws://{victim.host}:{victim.port}/ws",
        json.dumps(PACKETS),
    ]
    done = subprocess.run(
        command, cwd=CLIENT, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["extensions"].startswith("permessage-deflate")
    assert [packet.get("data") for packet in told["heard"][2:4]] == [SAID, SAID]
