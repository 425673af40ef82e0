"""What TLS costs: `python -m bench.secured`, Triode beside itself, one of both with a certificate.

What it must not know: how records are made, other servers.
The surprising decision: the load's own TLS costs more than the server's, as it decrypts for all subscribers in one
process; so only the server's processor time is compared, never how fast anything went.
"""

import argparse
import datetime
import ssl
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

import attrs
import trustme

from bench.contest import Seat
from bench.plan import WORKLOADS
from bench.servers import RECIPES, Recipe, running
from bench.sockets import Connection, Loop, Take
from bench.workloads import open_idle

PLAYED: Final = ("fanout-200", "pairs-1", "pairs-16")
CONNECTIONS: Final = 1_000
_WARM_CONNECTIONS: Final = 50
_HOST: Final = "127.0.0.1"


class _Secured:
    """A socket with TLS in the words of one without; reads all records that there are."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self.fileno, self.close = sock.fileno, sock.close
        self.setsockopt, self.setblocking = sock.setsockopt, sock.setblocking

    def send(self, data: bytes) -> int:
        try:
            return self._sock.send(data)
        except ssl.SSLWantWriteError:
            raise BlockingIOError from None

    def recv_into(self, buffer: memoryview, size: int) -> int:
        got = 0
        try:
            while size - got > 16_384:
                if not (piece := self._sock.recv_into(buffer[got:], size - got)):
                    break
                got += piece
        except ssl.SSLWantReadError:
            if not got:
                raise BlockingIOError(11, "nothing yet") from None
        return got


class SecuredLoop(Loop):
    """The loop, over TLS where it is given a context."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__()
        self._context = context

    def connect(self, address: tuple[str, int], take: Take) -> Connection:
        connection = super().connect(address, take)
        if self._context is not None:
            connection.sock.setblocking(True)
            secured = self._context.wrap_socket(connection.sock, server_hostname=_HOST)  # the same descriptor
            secured.setblocking(False)
            connection.sock = _Secured(secured)  # type: ignore[assignment]  # as much of one as is used
        return connection


@attrs.frozen
class Row:
    """One workload: microseconds of the server's processor for one unit."""

    name: str
    plain_us: float
    tls_us: float

    @property
    def ratio(self) -> float:
        """How many times as much with TLS."""
        return self.tls_us / self.plain_us


def certificate(place: Path) -> tuple[Recipe, ssl.SSLContext]:
    """A server with a fresh ECDSA certificate, and a context that trusts it."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=30)
    pair = authority.issue_cert(_HOST, key_type=trustme.KeyType.ECDSA, not_after=ends)
    file = place / "both.pem"
    file.touch(mode=0o600)
    pair.private_key_and_cert_chain_pem.write_to_path(str(file))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return attrs.evolve(RECIPES["triode"], name="tls", environment=_settings(str(file))), context


def _settings(file: str) -> Mapping[str, str]:
    return {**RECIPES["triode"].environment, "TRIODE_TLS_CERTIFICATE": file}


def play(windows: int, seconds: float, names: Sequence[str] = PLAYED) -> list[Row]:
    """All workloads, the windows of both servers in turn."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        recipe, context = certificate(Path(place))
        for workload in (one for one in WORKLOADS if one.name in names and one.opens is not None):
            with ExitStack() as stack:
                seats = []
                for contestant, trusted in ((RECIPES["triode"], None), (recipe, context)):
                    server = stack.enter_context(running(contestant))
                    loop = stack.enter_context(SecuredLoop(trusted))
                    assert workload.opens is not None
                    seats.append(Seat(contestant.name, server, loop, workload.opens(loop, server.address)))
                for seat in seats:
                    seat.warm(seconds)
                spent = [[seat.window(0, cycle, seconds).cpu_us for seat in seats] for cycle in range(windows)]
                for seat in seats:
                    account = seat.account(0)
                    if account.lost or account.doubled or account.misordered:
                        raise AssertionError(f"{seat.name}: {account}")
            rows.append(Row(workload.name, *(median(column) for column in zip(*spent, strict=True))))
    return rows


def connect(count: int = CONNECTIONS) -> list[tuple[str, float, float]]:
    """Of each server: processor milliseconds for a connection, and KiB while it is idle."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        recipe, context = certificate(Path(place))
        for contestant, trusted in ((RECIPES["triode"], None), (recipe, context)):
            with running(contestant) as server, SecuredLoop(trusted) as loop:
                open_idle(loop, server.address, _WARM_CONNECTIONS)
                memory, before = server.memory_kib(), server.cpu()
                open_idle(loop, server.address, count)
                spent = server.cpu().seconds - before.seconds
                found.append((contestant.name, spent * 1e3 / count, (server.memory_kib() - memory) / count))
    return found


def table(rows: Sequence[Row], connects: Sequence[tuple[str, float, float]]) -> str:
    """In Markdown."""
    lines = ["| workload | plain, µs a unit | TLS, µs a unit | ratio |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| `{row.name}` | {row.plain_us:.2f} | {row.tls_us:.2f} | {row.ratio:.2f} |" for row in rows]
    if connects:
        (_, plain_ms, plain_kib), (_, tls_ms, tls_kib) = connects
        lines.append(f"| a connect, ms | {plain_ms:.2f} | {tls_ms:.2f} | {tls_ms / plain_ms:.2f} |")
        lines.append(f"| idle, KiB | {plain_kib:.1f} | {tls_kib:.1f} | {tls_kib / plain_kib:.1f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.secured", description=__doc__)
    parser.add_argument("--windows", type=int, default=12, help="of each server (12)")
    parser.add_argument("--seconds", type=float, default=0.45, help="of a window (0.45)")
    asked: Any = parser.parse_args(arguments)
    print(table(play(asked.windows, asked.seconds), connect()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
