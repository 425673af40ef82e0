"""Connecting, in every face: tokens, refusals, whatever answers in a broker's place, what is told meanwhile."""

import logging
import re
import socket
import ssl
from typing import Any

import pytest
import triode
import trustme

from tests.client.broker import PATIENCE_SECONDS, Line, answering
from tests.client.faces.face import Face, on_its_loop
from tests.client.faces.scenes import goodbye
from tests.client.faces.stage import Signal


@on_its_loop
async def test_broker_that_refuses_for_good_ends_entering_with_its_words(face: Face) -> None:
    async def scene(line: Line) -> None:
        connect = await line.hear("connect")
        assert connect["token"] == "wrong"
        error = {
            "type": "error",
            "id": connect["id"],
            "name": "unauthorized",
            "message": "who?",
            "retry": "reauth",
        }
        await line.say(error, {"type": "bye", "code": 4001, "name": "auth_failed"})

    async with face.playing(scene) as url:
        with pytest.raises(triode.ConnectionRefused, match="unauthorized: who") as caught:
            async with face.connect(url, token="wrong"):
                pytest.fail("it was refused")
    assert caught.value.name == "unauthorized"


@on_its_loop
async def test_token_is_fetched_anew_for_each_attempt(face: Face) -> None:
    tokens = iter(["old", "new"])

    async def fetch() -> str:
        await face.checkpoint()
        return next(tokens)

    async def first(line: Line) -> None:
        connect = await line.hear("connect")
        assert connect["token"] == "old"
        error = {"type": "error", "id": connect["id"], "name": "token_expired", "message": "", "retry": "reauth"}
        await line.say(error)

    async def second(line: Line) -> None:
        assert (await line.accept())["token"] == "new"
        await line.goodbye()

    async with face.playing(first, second) as url, face.connect(url, token=fetch):
        pass


async def failure(face: Face, url: str, **options: Any) -> str:
    """Why an attempt to connect failed."""
    async with face.within(PATIENCE_SECONDS), face.connect(url, wait_seconds=0, **options) as client:
        async for event in client.events():
            if isinstance(event, triode.StateChanged) and event.state is triode.State.WAITING:
                return event.reason
    raise AssertionError("it ended")


@on_its_loop
async def test_token_that_cannot_be_fetched_is_a_failed_attempt(face: Face) -> None:
    async def fetch() -> str:
        raise LookupError("the vault is closed")

    assert await failure(face, "ws://127.0.0.1:9", token=fetch) == "the vault is closed"


@on_its_loop
async def test_token_that_is_no_text_is_a_failed_attempt(face: Face) -> None:
    async def fetch() -> Any:
        await face.checkpoint()

    reason = await failure(face, "ws://127.0.0.1:9", token=fetch)
    assert reason == "a token is a str, and the function that fetches it gave NoneType"


@on_its_loop
async def test_nobody_there_is_told_after_the_wait(face: Face) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else's
        url = f"ws://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(triode.ConnectionRefused, match=r"not connected within 0\.2 s: .+"):
            async with face.connect(url, wait_seconds=0.2):
                pytest.fail("nobody is there")


async def vault() -> str:
    raise LookupError("the vault is closed")


@pytest.mark.parametrize(
    ("answer", "token", "is_traced"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "", False),
        (b"", "", False),
        (b"", vault, True),
    ],
)
@on_its_loop
async def test_usual_failures_of_a_dial_are_logged_without_a_traceback(
    face: Face, caplog: pytest.LogCaptureFixture, answer: bytes, token: Any, is_traced: bool
) -> None:
    with caplog.at_level(logging.DEBUG, logger="triode"):
        async with face.serving(answering(answer)) as url:
            await failure(face, url, token=token)
    records = [record for record in caplog.records if record.getMessage().startswith("connection_failed")]
    assert records
    assert {bool(record.exc_info) for record in records} == {is_traced}


@on_its_loop
async def test_refused_dial_is_logged_without_a_traceback(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="triode"), socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        reason = await failure(face, f"ws://127.0.0.1:{bound.getsockname()[1]}")
    assert f"{reason!r}" in caplog.text
    assert not any(record.exc_info for record in caplog.records if record.name == "triode")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed during the WebSocket handshake"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "HTTP 403"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "HTTP 503"),
        (b"HTTP/1.1 200 OK\r\n\r\n", ".+"),
        (b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:9/ws\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
        (b"\x00\xff\x00garbage\r\n\r\n", ".+"),
        (b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", ".+"),
        (b"HTTP/1.1 101 \xff\xfe\r\n\xff: \xfe\r\n\r\n", ".+"),
    ],
)
@on_its_loop
async def test_whatever_answers_the_handshake_is_a_failed_attempt(face: Face, answer: bytes, reason: str) -> None:
    """S33: the libraries underneath raise more than they document; nothing escapes."""
    async with face.serving(answering(answer)) as url:
        assert re.search(reason, await failure(face, url))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"Retry-After: 7", 7),
        (b"retry-after:  99999999999999999999999", 300),
        (b"Retry-After: -5", 0),
        (b"Retry-After: Wed, 21 Oct 2026 07:28:00 GMT", 0),
        (b"X: 1", 0),
    ],
)
@on_its_loop
async def test_refused_handshake_may_ask_for_a_pause(face: Face, header: bytes, seconds: float) -> None:
    """SPEC 1.1; within max_wait_seconds (S33)."""
    answer = b"HTTP/1.1 503 Busy\r\n" + header + b"\r\nContent-Length: 0\r\n\r\n"
    async with face.serving(answering(answer)) as url:
        client = face.connect(url, wait_seconds=0)
        events = client.events()
        async with client:
            async for event in events:
                if isinstance(event, triode.StateChanged) and event.state is triode.State.WAITING:
                    assert seconds <= event.delay_seconds < seconds + 0.25
                    return


@on_its_loop
async def test_silent_server_is_given_up_in_time(face: Face) -> None:
    async with face.serving(answering(None)) as url:
        assert "no answer to connect in time" in await failure(face, url, connect_timeout_seconds=0.05)


@on_its_loop
async def test_broker_that_sends_too_much_or_nonsense_is_left_and_tried_again(
    face: Face,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S33"""

    async def much(line: Line) -> None:
        await line.accept()
        await line.say({"type": "fireworks", "colour": "x" * 3_000})
        await line.until_closed()

    async def nonsense(line: Line) -> None:
        await line.accept()
        await line.websocket.send_message("nonsense")
        await line.until_closed()

    async def binary(line: Line) -> None:
        await line.accept()
        await line.websocket.send_message(b"\x00\x01")
        await line.until_closed()

    async def garbage(line: Line) -> None:
        await line.accept()
        await line.websocket._stream.send_all(b"\xff\xff\xff\xff")
        await line.until_closed()

    async def bye(line: Line) -> None:
        await line.accept()
        await line.say({"type": "bye", "code": 4200, "name": "draining"})
        await line.until_closed()

    async with face.playing(much, nonsense, binary, garbage, bye, goodbye) as url:
        reasons = []
        client = face.connect(url, max_receive_bytes=2_000)
        events = client.events()  # the first of them may come together with `connected`
        async with client:
            async for event in events:
                if isinstance(event, triode.StateChanged) and event.state is triode.State.WAITING:
                    reasons.append(event.reason)
                if len(reasons) == 5 and client.state is triode.State.CONNECTED:
                    break
    assert "max_receive_bytes" in reasons[0]
    assert "no packet" in reasons[1]
    assert "binary" in reasons[2]
    assert "draining" in reasons[4]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@on_its_loop
async def test_three_failed_attempts_are_logged(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    async with face.serving(answering(b"")) as url, face.connect(url, wait_seconds=0) as client:
        async for event in client.events():
            if isinstance(event, triode.HandshakesRefused):
                break
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@on_its_loop
async def test_complaints_and_notices_are_events_and_logged(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        error = {"type": "error", "name": "forbidden", "message": "line\nbreak", "retry": "never"}
        await line.say(error, {"type": "notice", "draining": True})
        await line.goodbye()

    with caplog.at_level(logging.INFO):
        async with face.playing(scene) as url:
            client = face.connect(url)
            events = client.events()
            async with client:
                seen = [await anext(events) for _ in range(4)]
            assert [type(event) for event in seen[:2]] == [triode.StateChanged] * 2
            assert seen[2:] == [triode.Complaint("forbidden", "line\nbreak"), triode.Notice(draining=True)]
    told = [record.getMessage() for record in caplog.records if record.name == "triode"]
    assert told == ["complaint name='forbidden' message='line\\nbreak'", "notice draining=True"]


class Shipping(logging.Handler):
    """Publishes each line of the log by the client that the line may be about."""

    def __init__(self, client: triode.Client) -> None:
        super().__init__(logging.WARNING)
        self._client = client

    def emit(self, record: logging.LogRecord) -> None:
        self._client.publish_nowait("log", record.getMessage())


@on_its_loop
async def test_log_shipped_by_the_client_itself_has_each_line_once(face: Face) -> None:
    is_shipping = Signal()

    async def scene(line: Line) -> None:
        await line.accept()
        await is_shipping.wait()
        await line.say({"type": "error", "name": "forbidden", "message": "no", "retry": "never"})
        assert (await line.published())["data"] == "complaint name='forbidden' message='no'"
        assert (await line.published())["topic"] == "last"
        await line.goodbye()

    log = logging.getLogger("triode")
    async with face.playing(scene) as url, face.connect(url) as client:
        shipping = Shipping(client)
        events = client.events()
        log.addHandler(shipping)
        try:
            is_shipping.set()
            assert isinstance(await anext(events), triode.Complaint)
            await client.publish("last", 1)
        finally:
            log.removeHandler(shipping)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@on_its_loop
async def test_encrypted_connection_is_checked_against_its_authority(face: Face, authority: trustme.CA) -> None:
    server, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client_side)
    async with face.playing(goodbye, context=server) as url:
        assert "CERTIFICATE_VERIFY_FAILED" in await failure(face, url)
        async with face.connect(url, ssl_context=client_side):
            pass
