"""How commands come in: a token of a file that is renewed, and what is said where none is let in."""

import os
from pathlib import Path

import pytest
from triode_broker.cli.advice import advice, no_connection
from triode_broker.cli.arguments import parse
from triode_broker.cli.connecting import make_client, token_source
from triode_broker.cli.exit_codes import ExitCode

from tests.cli.programs import PATIENCE_SECONDS, run
from tests.cli.test_clients import asking, command
from tests.security.withdrawing import token

UNTRUSTED = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
WSS, WS = "wss://localhost:7400/ws", "ws://localhost:7400/ws"


async def test_s19_the_file_of_a_token_is_read_for_each_connection(tmp_path: Path) -> None:
    """Whoever renews the token writes the file anew, and a command that runs for days goes on with it."""
    file = tmp_path / "token"
    file.write_text(token("ada") + "\n")
    async with asking(tmp_path) as broker:
        client = make_client(
            parse(["sub", "a", "--url", broker.url, "--token-file", str(file)]), {}, PATIENCE_SECONDS
        )
        async with client, client.subscribe("a") as messages:
            await client.publish("a", 1)
            assert (await anext(messages)).user == "ada"
            file.write_text(token("bob") + "\n")
            assert (await command(tmp_path, "kick", "--user", "ada", "--come-back")).code == ExitCode.OK
            await client.publish("a", 2)
            assert (await anext(messages)).user == "bob"


async def test_a_token_of_a_pipe_stays_and_one_of_a_file_that_has_gone_is_told(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.write(theirs, b"abc\n")
    os.close(theirs)
    assert token_source(parse(["sub", "a", "--token-file", f"/dev/fd/{ours}"]), {}) == "abc"
    os.close(ours)
    assert token_source(parse(["sub", "a"]), {"TRIODE_TOKEN": " abc\n"}) == "abc"
    file = tmp_path / "token"
    file.write_text("abc")
    source = token_source(parse(["sub", "a", "--token-file", str(file)]), {})
    assert not isinstance(source, str)
    assert await source() == "abc"
    file.unlink()
    with pytest.raises(Exception, match=r"--token-file .*token: cannot be read: No such file"):
        await source()


@pytest.mark.parametrize(
    ("reason", "address", "words", "is_final"),
    [
        (UNTRUSTED + "self-signed certificate", WSS, "--ca FILE", True),
        (UNTRUSTED + "Hostname mismatch, certificate is not valid for 'a'", WSS, "by a name that stands", True),
        (
            UNTRUSTED + "IP address mismatch, certificate is not valid for '::1'",
            WSS,
            "by a name that stands",
            True,
        ),
        (UNTRUSTED + "certificate has expired (_ssl.c:1)", WSS, "has to be renewed", True),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", WSS, "write ws://", True),
        ("the broker answered the WebSocket handshake with HTTP 400", WS, "write wss://", False),
        ("the broker answered the WebSocket handshake with HTTP 400", "http://a", "write wss://", False),
        ("the broker answered the WebSocket handshake with HTTP 400", WSS, "it runs", False),
        ("the broker answered the WebSocket handshake with HTTP 503", WS, "it runs", False),
        ("the broker answered the WebSocket handshake with HTTP 404", WS, "at this path", False),
        ("unavailable: credentials cannot be checked now", WS, "it runs", False),
        ("the broker said goodbye: connection_limit", WS, "it runs", False),
        ("the connection was closed during the WebSocket handshake", WSS, "--certificate FILE", False),
        ("the connection was closed during the WebSocket handshake", WS, "is it running?", False),
        ("[Errno 111] Connection refused", WS, "Start one with `triode serve`", False),
    ],
)
def test_the_reason_says_what_to_do(reason: str, address: str, words: str, is_final: bool) -> None:
    found = advice(f"not connected within 1 s: {reason}", address)
    assert words in found.text
    assert found.is_final is is_final
    head = "no broker at" if "triode serve" in found.text or "404" in reason else "no connection to"
    assert no_connection(reason, address).startswith(f"{head} {address} ({reason}); ")


async def test_s10_a_token_in_a_url_is_in_no_message() -> None:
    for url in ("ws://127.0.0.1:1/ws?token=hush", "ftp://127.0.0.1/?token=hush", "ws://me:hush@127.0.0.1/"):
        ended = await run("pub", "a", "x", "--timeout", "0.1", url=url)
        assert ended.code in (ExitCode.TIMEOUT, ExitCode.USAGE)
        assert "127.0.0.1" in ended.errors
        assert "hush" not in ended.errors
