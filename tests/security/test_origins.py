"""S9: which web pages may connect; the exact list, the node's own pages, and names led to this machine."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import msgspec
import pytest
from triode_broker.cli.settings import BadSettings, load
from triode_broker.config import Limits
from triode_broker.edge.door import Door
from triode_broker.edge.forwarded import Proxies
from triode_broker.edge.front import Front
from triode_broker.edge.listeners import UNSENT_BYTES, listen
from triode_broker.edge.origins import Origins, parse_origin

from tests.edge.rig import CLOSE, HANDSHAKE, TEXT, Client, Rig, close_payload, text

LISTED = ("https://chat.example.org", "http://dev.example.org:8080", "capacitor://localhost")


def with_origin(*origins: str, host: str = "broker.example") -> bytes:
    """A handshake that says it comes from a page of these."""
    lines = "".join(f"Origin: {origin}\r\n" for origin in origins)
    return HANDSHAKE.replace(b"broker.example", host.encode())[:-2] + lines.encode() + b"\r\n"


def allows(
    origin: str | None,
    host: str = "broker.example:7400",
    *,
    listed: tuple[str, ...] = LISTED,
    is_encrypted: bool = False,
    is_local: bool = False,
) -> bool:
    """What a node with this list says."""
    return Origins(listed).allows(origin, host, is_encrypted=is_encrypted, is_local=is_local)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://chat.example.org", "https://chat.example.org"),
        ("HTTPS://Chat.EXAMPLE.org", "https://chat.example.org"),
        ("https://chat.example.org:443", "https://chat.example.org"),
        ("http://chat.example.org:80", "http://chat.example.org"),
        ("http://chat.example.org:443", "http://chat.example.org:443"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]"),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
    ],
)
def test_s9_origin_is_evened_out_in_case_and_default_port_and_nothing_else(text: str, canonical: str) -> None:
    """SPEC 1.17"""
    assert str(parse_origin(text)) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "*",
        "chat.example.org",
        "//chat.example.org",
        "https:chat.example.org",
        "https://",
        "https://:443",
        "https://chat.example.org/",
        "https://chat.example.org/path",
        "https://chat.example.org?",
        "https://chat.example.org#",
        "https://chat.example.org.",
        "https://chat..example.org",
        "https://.example.org",
        "https://*.example.org",
        "https://user@chat.example.org",
        "https://chat.example.org@evil.example",
        "https://chat.example.org:",
        "https://chat.example.org:0443",
        "https://chat.example.org:+443",
        "https://chat.example.org:65536",
        "https://chat.example.org:443:443",
        "https://chat.example.org:443 ",
        " https://chat.example.org",
        "https://chat.example.org https://evil.example",
        "https://chat.example.org, https://evil.example",
        "https://chat.example.org\\evil",
        "https://chat.example.org%00",
        "https://münchen.example",
        "https://chat。example",
        "https://[::1",
        "https://::1",
        "https://[0:0:0:0:0:0:0:1]",
        "https://[::1%25lo]",
        "https://[chat.example.org]",
        "https://[::1]x",
        "https://" + "a" * 300,
    ],
)
def test_s9_what_is_not_one_origin_is_none(text: str) -> None:
    """SPEC 1.17"""
    assert parse_origin(text) is None
    assert not allows(text)


@pytest.mark.parametrize("origin", [*LISTED, "HTTPS://CHAT.example.org:443", None])
def test_s9_listed_page_and_no_page_may_connect(origin: str | None) -> None:
    """SPEC 1.17: what is no browser sends no Origin."""
    assert allows(origin)
    assert allows(origin, is_local=True)


@pytest.mark.parametrize(
    "origin",
    [
        "http://chat.example.org",
        "https://chat.example.org:8443",
        "https://example.org",
        "https://evil.chat.example.org",
        "https://evilchat.example.org",
        "https://chat.example.org.evil.example",
        "https://chat.example.orgevil",
        "https://chat-example.org",
        "wss://chat.example.org",
        "http://dev.example.org",
        "capacitor://localhost:80",
    ],
)
def test_s9_neighbour_of_a_listed_page_may_not(origin: str) -> None:
    """SPEC 1.17: no suffix, no prefix, no other port, no other scheme."""
    assert not allows(origin)
    assert not allows(origin, is_local=True)


def test_s9_nodes_own_page_may_connect() -> None:
    """SPEC 1.17: scheme and port included."""
    assert allows("http://broker.example:7400", listed=())
    assert not allows("https://broker.example:7400", listed=())
    assert allows("https://broker.example:7400", listed=(), is_encrypted=True)
    assert not allows("http://broker.example:7400", listed=(), is_encrypted=True)
    assert not allows("http://broker.example", listed=())
    assert allows("https://broker.example", "broker.example:443", listed=(), is_encrypted=True)
    assert not allows("http://broker.example:7400", "", listed=())


def test_s9_name_that_leads_to_this_machine_is_not_believed() -> None:
    """SPEC 1.17: DNS rebinding; origin and Host agree, and both are the attacker's."""
    assert not allows("http://evil.example:7400", "evil.example:7400", listed=(), is_local=True)
    assert not allows("http://localhost.evil.example:7400", "localhost.evil.example:7400", is_local=True)
    assert not allows("http://evil.example:7400", "127.0.0.1:7400", is_local=True)
    assert not allows("http://127.0.0.1:7400", "evil.example:7400", is_local=True)
    assert allows("http://chat.local:7400", "chat.local:7400", listed=("http://chat.local:7400",), is_local=True)


@pytest.mark.parametrize("host", ["127.0.0.1:7400", "localhost:7400", "[::1]:7400", "127.8.9.1"])
@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:5173", "https://[::1]:8080"])
def test_s9_pages_of_this_machine_may_connect_to_it_whatever_their_port(host: str, origin: str) -> None:
    """SPEC 1.17: development servers; from elsewhere it would be somebody else's machine."""
    assert allows(origin, host, listed=(), is_local=True)
    assert not allows(origin, host, listed=(), is_local=False)


def test_s9_address_of_this_machine_in_the_network_is_no_name() -> None:
    """SPEC 1.17"""
    assert allows("http://192.0.2.7:7400", "192.0.2.7:7400", listed=(), is_local=True)


def test_s9_star_lets_everybody_in() -> None:
    """SPEC 1.17"""
    for origin in ("https://evil.example", "null", "nonsense"):
        assert allows(origin, listed=("*",), is_local=True)


@pytest.mark.parametrize("entry", ["chat.example.org", "https://*.example.org", "null", "", "https://a/b"])
def test_s9_list_with_something_else_in_it_is_none(entry: str) -> None:
    with pytest.raises(ValueError, match="not an origin: write scheme://host"):
        Origins(["https://chat.example.org", entry])


@pytest.mark.parametrize("entry", ["chat.example.org", "https://*.example.org", "null"])
def test_s9_broker_does_not_start_with_such_a_list(entry: str) -> None:
    with pytest.raises(BadSettings, match=r"origins.*is not an origin: write scheme://host"):
        load({"origins": ["https://chat.example.org", entry]})
    assert load({"origins": ["https://chat.example.org", "*"]}).config.origins


# At the door


@pytest.fixture
def listed_rig(make_rig: Callable[..., Rig]) -> Rig:
    """With LISTED."""
    return make_rig(door=Door(origins=Origins(LISTED)))


def is_refused(client: Client) -> bool:
    """Whether it was told forbidden_origin, and nothing else."""
    answer, _, frames = client.receive().partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 "), answer
    client.buffer = frames
    found = client.frames()
    if not found:
        return False
    assert [opcode for opcode, _ in found] == [TEXT, CLOSE]
    assert msgspec.json.decode(found[0][1]) == {"type": "bye", "code": 4003, "name": "forbidden_origin"}
    assert found[1][1] == close_payload(4003, "forbidden_origin")
    return True


def test_s9_page_is_told_why_and_nothing_it_sent_is_served(listed_rig: Rig) -> None:
    """SPEC 1.17: by close code, because a browser shows nobody an HTTP status."""
    client = listed_rig.client(with_origin("https://evil.example") + text("connect"))
    assert is_refused(client)
    assert listed_rig.talkers == []
    client.send(text("say 1"))
    assert client.receive() == b""


def test_s9_listed_page_is_served(listed_rig: Rig) -> None:
    client = listed_rig.client(with_origin("https://chat.example.org") + text("hello"))
    assert not is_refused(client)
    assert len(listed_rig.talkers) == 1


def test_s9_two_origins_are_a_bad_request(listed_rig: Rig) -> None:
    client = listed_rig.client(with_origin("https://chat.example.org", "https://evil.example"))
    assert client.receive().startswith(b"HTTP/1.1 400 ")
    assert listed_rig.talkers == []


def test_s9_empty_origin_is_an_origin(listed_rig: Rig) -> None:
    assert is_refused(listed_rig.client(with_origin("")))


def test_s9_log_names_the_origin_seldom_and_bounded(listed_rig: Rig) -> None:
    """S27: a page that is loaded a thousand times fills no disk."""
    open_page = partial(listed_rig.client, with_origin("https://evil.example/" + "x" * 5_000))
    for _ in range(5):
        open_page()
    (event, values), *more = listed_rig.log.entries
    assert not more
    assert event == "origin_refused"
    assert values["origin"].startswith("https://evil.example/xxx")
    assert len(values["origin"]) < 200
    assert "origins" in values["advice"]
    listed_rig.after(10)
    open_page()
    assert listed_rig.log.entries[1][1]["more_like_it"] == 4


def test_s9_nodes_own_page_behind_a_proxy_is_what_the_proxy_says(make_rig: Callable[..., Rig]) -> None:
    """SPEC 1.17: TLS ends there, on this machine; of others its words count nothing."""
    page = "https://chat.example"
    behind = with_origin(page, host="chat.example").replace(
        b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\r\n"
    )
    for trusted, is_let_in in ((("127.0.0.1",), True), ((), False)):
        rig = make_rig(door=Door(front=Front(proxies=Proxies(trusted))))
        with listening() as listener, dialled(listener) as (ours, theirs):
            rig.edge.adopt(theirs, "127.0.0.1")
            ours.sendall(behind)
            rig.turn()
            assert (len(rig.talkers) == 1) is is_let_in


def test_s6_clients_behind_a_proxy_are_counted_by_their_own_address(make_rig: Callable[..., Rig]) -> None:
    """SPEC 1.1"""
    rig = make_rig(Limits(max_address_connections=1), door=Door(front=Front(proxies=Proxies(("127.0.0.1",)))))
    with listening() as listener, ExitStack() as lines:
        statuses = []
        for client in (b"203.0.113.7", b"203.0.113.7", b"203.0.113.8"):
            ours, theirs = lines.enter_context(dialled(listener))
            rig.edge.adopt(theirs, "127.0.0.1")
            ours.sendall(HANDSHAKE[:-2] + b"X-Forwarded-For: " + client + b"\r\n\r\n")
            rig.turn()
            statuses.append(ours.recv(1_000)[9:12])
    assert statuses == [b"101", b"429", b"101"]


@contextmanager
def listening() -> Iterator[socket.socket]:
    """A socket that listens on this machine."""
    (listener,) = listen("127.0.0.1:0")
    with listener:
        listener.setblocking(True)
        yield listener


@contextmanager
def dialled(listener: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection; the second one is somebody else's to close."""
    with socket.create_connection(listener.getsockname()) as ours:
        theirs, _ = listener.accept()
        yield ours, theirs


def test_s7_kernel_takes_little_that_it_cannot_send() -> None:
    """Of a reader that stalls it is the outbox that has to notice, not 4 MiB later."""
    with listening() as listener, dialled(listener) as (_, theirs), theirs:
        assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES
        theirs.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while sent < 64 * 2**20:
                sent += theirs.send(bytes(65_536))
        assert sent < 64 * 2**20
