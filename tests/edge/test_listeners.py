"""Addresses: what is one, what is bound, and what people are told to open."""

import socket

import pytest
from triode_broker.edge.listeners import listen, parse_address, reserve, url


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("127.0.0.1:7400", ("127.0.0.1", 7400)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        (":7400", ("", 7400)),
    ],
)
def test_address_is_host_and_port(address: str, parsed: tuple[str, int]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize("address", ["", "7400", "x", "x:", "x:y", "x:-1", "x:65536", "x:٣", "::1:7400"])
def test_address_that_is_none_is_refused_with_an_example(address: str) -> None:
    with pytest.raises(ValueError, match="is not an address: "):
        parse_address(address)


def test_listener_takes_a_free_port_and_says_what_to_open() -> None:
    (listener,) = listen("127.0.0.1:0")
    with listener:
        port = listener.getsockname()[1]
        assert url(listener) == f"http://127.0.0.1:{port}"
        assert listener.gettimeout() == 0
        socket.create_connection(("127.0.0.1", port)).close()


def test_all_addresses_share_one_free_port() -> None:
    listeners = listen(":0")
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
        assert {url(listener).rpartition(":")[0] for listener in listeners} <= {"http://127.0.0.1", "http://[::1]"}
    finally:
        for listener in listeners:
            listener.close()


def test_address_in_use_is_an_error_and_leaves_nothing_open() -> None:
    (listener,) = listen("127.0.0.1:0")
    with listener, pytest.raises(OSError, match="in use"):
        listen(f"127.0.0.1:{listener.getsockname()[1]}")


def test_a_reserved_port_is_shared_by_those_who_reuse_it_and_refuses_connections_until_then() -> None:
    (reserved,), address = reserve("127.0.0.1:0")
    with reserved:
        where = parse_address(address)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where)
        listeners = [listen(address, reuse_port=True)[0] for _ in range(2)]
        for listener in listeners:
            assert listener.getsockname() == where
        for listener in listeners:  # the other one goes on alone
            socket.create_connection(where).close()
            listener.close()
        (again,) = listen(address, reuse_port=True)
        again.close()


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_port_somebody_listens_on_cannot_be_reserved(reuse_port: bool) -> None:
    (listener,) = listen("127.0.0.1:0", reuse_port=reuse_port)
    with listener, pytest.raises(OSError, match="in use"):
        reserve(f"127.0.0.1:{listener.getsockname()[1]}")


def test_a_reserved_address_keeps_its_host() -> None:
    sockets, address = reserve("localhost:0")
    for reserved in sockets:
        assert address == f"localhost:{reserved.getsockname()[1]}"
        reserved.close()


def test_a_listener_with_a_certificate_is_opened_with_https() -> None:
    (listener,) = listen("127.0.0.1:0")
    with listener:
        assert url(listener, is_tls=True) == url(listener).replace("http://", "https://")
