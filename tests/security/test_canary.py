"""S10: a token that goes through a real broker in every way there is, and is found nowhere afterwards.

What can be seen of a process: its log in full detail, what it answers, what health says, its command line and
environment.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.edge.rig import HANDSHAKE, text
from tests.security.victim import PATIENCE_SECONDS, Victim

CANARY = "canary-4c1f.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """Wants a token, takes it from URLs too, and logs all it can."""
    more = f"""log_level = "debug"
[auth]
query_token = true
[[tokens]]
algorithm = "HS256"
key_file = "{tmp_path_factory.mktemp("key") / "secret"}"
"""
    key = Path(more.split('key_file = "')[1].split('"')[0])
    key.write_text("a secret of thirty-two characters, or more\n")
    key.chmod(0o600)
    victim = Victim(tmp_path_factory.mktemp("victim"), settings=more)
    yield victim
    assert victim.end() == 0


def say(victim: Victim, *, target: str = "/ws", header: str = "", behind: bytes = b"") -> bytes:
    """All that the broker says to this, until it ends it."""
    head = HANDSHAKE.replace(b"/ws ", target.encode() + b" ")[:-2] + header.encode() + b"\r\n"
    answer = b""
    with socket.create_connection((victim.host, victim.port), timeout=PATIENCE_SECONDS) as line:
        line.sendall(head + behind)
        line.shutdown(socket.SHUT_WR)
        while data := line.recv(65_536):
            answer += data
    return answer


def test_s10_token_is_found_nowhere(victim: Victim) -> None:
    """SPEC 1.18"""
    connect = text('{"type":"connect","id":1}')
    with_token = text(json.dumps({"type": "connect", "id": 1, "token": CANARY}))
    bearer = f"Authorization: Bearer {CANARY}\r\n"
    said = [
        say(victim, behind=with_token),
        say(victim, header=bearer, behind=connect),
        say(victim, target=f"/ws?token={CANARY}", behind=connect),
        say(victim, header=bearer, behind=with_token),
        say(victim, target=f"/ws?token={CANARY}", header=bearer, behind=connect),
        say(victim, header=bearer * 2, behind=connect),
        say(victim, header=f"Authorization: Bearer {CANARY} {CANARY}\r\n"),
        say(victim, header=f"Authorization: Bearer {CANARY}\x00\r\n"),
        say(victim, target=f"/nowhere?token={CANARY}"),
        say(victim, target=f"/nowhere/{CANARY[:0]}", header=bearer),
        say(victim, behind=text(json.dumps({"type": "connect", "token": [CANARY]}))),
        say(victim, behind=text(json.dumps({"type": "connect", "id": 1, "tokens": CANARY}))),
        say(victim, behind=text(json.dumps({"type": "publish", "token": CANARY}))),
        say(victim, behind=text('{"type":"connect","token":"' + CANARY)),
        say(victim, header=f"Origin: https://evil.example\r\n{bearer}", behind=connect),
    ]
    with urlopen(f"http://{victim.host}:{victim.port}/healthz") as answer:
        said.append(answer.read())
    victim.wait_for(connections=1)
    process = Path(f"/proc/{victim.pid}")
    shown = [
        *said,
        json.dumps(victim.events()).encode(),
        (process / "cmdline").read_bytes(),
        (process / "environ").read_bytes(),
    ]
    assert all(said)
    assert [part for part in shown if CANARY[:11].encode() in part] == []


def test_s10_token_that_is_wrong_in_the_header_is_judged_like_one_in_the_packet(victim: Victim) -> None:
    """SPEC 1.18"""
    connect = text('{"type":"connect","id":1}')
    for answer in (
        say(victim, header=f"Authorization: Bearer {CANARY}\r\n", behind=connect),
        say(victim, target=f"/ws?token={CANARY}", behind=connect),
        say(victim, behind=text(json.dumps({"type": "connect", "id": 1, "token": CANARY}))),
    ):
        assert b'"name":"unauthorized"' in answer
        assert b'"code":4001' in answer
