"""What `triode check` says of the other nodes: names, ways there, the secret, and whether settings drift.

Knows the hello of nodes and speaks it up to the welcome. The surprising decision: it never says the last word of
it, so that no link comes about: a check of a node that is not there yet must not look like that node.
"""

import os
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Final

import trio

from triode_broker.cli.finding import Finding, fail, ok, warn
from triode_broker.cluster.addresses import PeerAddress, parse_peer_url
from triode_broker.cluster.carrier import dial
from triode_broker.cluster.hello import (
    NONCE_BYTES,
    Dialler,
    HelloRefused,
    Identity,
    configuration,
    drift,
    make_incarnation,
)
from triode_broker.cluster.links import admit_all, connect_tcp
from triode_broker.cluster.secret import BadSecret, read_secret
from triode_broker.cluster.securing import PeerTls, secure_dialled
from triode_broker.config import Config
from triode_broker.release import version
from triode_broker.tls import dialling

PATIENCE_SECONDS: Final = 5.0


def peers(config: Config) -> Iterator[Finding]:
    """Every seed."""
    secret = b""
    if config.cluster_secret_file:
        try:
            secret = read_secret(config.cluster_secret_file)
        except BadSecret as error:
            yield fail("peers", f"cluster_secret_file: {error}", "all nodes have the same")
            return
    for seed in config.seeds:
        at = parse_peer_url(seed)
        try:
            found = socket.getaddrinfo(at.host, at.port, type=socket.SOCK_STREAM)
        except OSError as error:
            advice = "is the name right, and does this machine's resolver know it?"
            yield fail("peers", f"{seed}: no address for {at.host}: {error.strerror}", advice)
            continue
        addresses = sorted({str(one[4][0]) for one in found})
        yield ok("peers", f"{seed}: {at.host} is {', '.join(addresses)}")
        yield from trio.run(_greet, config, secret, seed, at)


async def _greet(config: Config, secret: bytes, seed: str, at: PeerAddress) -> list[Finding]:
    me = Identity(
        cluster=config.cluster,
        node=f"check-{os.urandom(4).hex()}",
        incarnation=make_incarnation(os.urandom),
        memory_shards=config.memory_shards,
        durable_shards=config.durable_shards,
        durable=config.durable,
        version=version(),
        configuration=configuration(config),
    )
    talk = Dialler(me, secret, os.urandom(NONCE_BYTES), admit_all)
    began, problem = time.perf_counter(), "no answer"
    try:
        with trio.move_on_after(PATIENCE_SECONDS):
            stream = await connect_tcp(at.host, at.port)
            tls = None
            if config.cluster_tls.certificate:
                context = partial(dialling, config.cluster_tls)
                tls = PeerTls(context, context)
            stream = await secure_dialled(stream, at, tls)
            async with dial(stream, seed.partition("//")[2], 65_536) as carrier:
                await carrier.send(talk.begin())
                while not talk.is_done:
                    answer = talk.answer(await carrier.receive())
                    if answer and not talk.is_done:
                        await carrier.send(answer)
            return list(_welcomed(me, talk.peer, seed, (time.perf_counter() - began) * 1_000))
    except* HelloRefused as group:
        refused = next(one for one in group.exceptions if isinstance(one, HelloRefused))
        problem = f"refused: {refused.reason} {refused.detail}".rstrip()
    except* Exception as group:  # noqa: BLE001  # whatever it is, the peer was not reached
        first = group.exceptions[0]
        problem = str(first) or type(first).__name__
    return [fail("peers", f"{seed}: {problem}", _ADVICE.get(problem.partition(" ")[2].partition(" ")[0], _REACH))]


_REACH: Final = "is it running, does it listen there, and does a firewall let this machine through?"
_ADVICE: Final = {
    "wrong_secret": "cluster_secret_file has to hold the same on all nodes",
    "other_cluster": "`cluster` has to be the same on all nodes",
    "other_shards": "memory_shards and durable_shards have to be the same on all nodes",
    "bad_tls": "all nodes have [cluster_tls], or none",
}


def _welcomed(me: Identity, peer: Identity, seed: str, ms: float) -> Iterator[Finding]:
    yield ok("peers", f"{seed}: node {peer.node}, version {peer.version or '-'}, knows the secret ({ms:.0f} ms)")
    if names := drift(me, peer):
        yield warn(
            "peers", f"{seed}: {', '.join(names)} differ from {peer.node}'s", "all nodes should have them alike"
        )
