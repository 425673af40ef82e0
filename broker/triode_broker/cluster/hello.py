"""How two nodes find out that they belong together, before the first frame: five messages and their checks.

Pure: bytes in, bytes out; nonces and the decision whether a node is welcome come in. Knows no sockets.

    dialler                          listener
    Hello(nonce, identity)    →
                              ←      Challenge(nonce, node, incarnation, protocol)
    Proof(mac)                →      checks it
                              ←      Welcome(identity, mac)
    Ready                     →      both have opened the link

The secret never travels. A proof is an HMAC over a word for the role and over everything said so far, byte for
byte, both nonces and both names included: one made as a dialler is worth nothing as a listener's (reflection),
nor in any other conversation (replay). The surprising decision: the dialler proves first. Whoever gets a proof
can guess at the secret offline; anybody can connect to a listener, but a dialler only goes where its settings
or a proven peer sent it. So a listener answers strangers with a nonce and its name, and neither is made to sign
anything a stranger chose whole.
"""

import hmac
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from triode_broker.cluster.addresses import MAX_URL_CHARACTERS
from triode_broker.cluster.frames import PROTOCOLS
from triode_broker.config import Config
from triode_broker.core.shard import HASH_VERSION

#: Bytes of any one message of the conversation.
MAX_HELLO_BYTES: Final = 16_384
NONCE_BYTES: Final = 32
INCARNATION_BYTES: Final = 8
MIN_SECRET_BYTES: Final = 16
#: What of the configuration every node should have alike; told as digests, shown as drift.
SHARED_SETTINGS: Final = ("auth", "durable", "limits", "permissions", "quotas", "tokens", "topics")

_DIALLER: Final = b"triode-peer dialler 1"
_LISTENER: Final = b"triode-peer listener 1"

NAME_PATTERN: Final = r"^[a-z0-9-]{1,64}\Z"  # not $: that lets a line end pass
Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Nonce = Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
Mac = Annotated[bytes, Meta(max_length=64)]
Url = Annotated[str, Meta(max_length=MAX_URL_CHARACTERS)]
Word = Annotated[str, Meta(max_length=64)]

# Reasons of a refusal
OTHER_CLUSTER: Final = "other_cluster"
WRONG_SECRET: Final = "wrong_secret"
NO_COMMON_PROTOCOL: Final = "no_common_protocol"
OTHER_HASH_VERSION: Final = "other_hash_version"
OTHER_SHARDS: Final = "other_shards"
NAME_TAKEN: Final = "name_taken"
SELF: Final = "self"
BAD_TLS: Final = "bad_tls"  # only one of both has it, or a handshake has failed
WRONG_CERTIFICATE: Final = "wrong_certificate"  # it does not name this node
DUPLICATE: Final = "duplicate"  # the dialler has a link to this very node, under another URL
BAD_HELLO: Final = "bad_hello"
REASONS: Final = frozenset({
    OTHER_CLUSTER, WRONG_SECRET, NO_COMMON_PROTOCOL, OTHER_HASH_VERSION, OTHER_SHARDS, NAME_TAKEN, SELF, DUPLICATE,
    BAD_TLS, WRONG_CERTIFICATE, BAD_HELLO,
})  # fmt: skip


class Identity(Struct, array_like=True, frozen=True, kw_only=True):
    """Who a node is. New fields only at the end, with a default (docs/peer-protocol.md)."""

    cluster: Name
    node: Name
    incarnation: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    memory_shards: int
    durable_shards: int
    hash_version: int = HASH_VERSION
    durable: Annotated[tuple[Name, ...], Meta(max_length=64)] = ()  # the holder of d0, d1, …
    version: Word = ""  # of the program
    advertise: Url = ""  # where clients reach it
    cluster_advertise: Url = ""  # where nodes reach it
    configuration: Annotated[dict[Word, Word], Meta(max_length=64)] = {}  # digests by name, for `drift`


class Hello(Struct, array_like=True, tag=1):
    """The dialler's first word."""

    protocols: tuple[int, int]
    nonce: Nonce
    identity: Identity


class Challenge(Struct, array_like=True, tag=2):
    """The listener's: which version it is to be, and whom the proof is for."""

    nonce: Nonce
    node: Name
    incarnation: Annotated[str, Meta(max_length=16)]
    protocol: int


class Proof(Struct, array_like=True, tag=3):
    """The dialler knows the secret."""

    mac: Mac


class Welcome(Struct, array_like=True, tag=4):
    """The listener knows it too. Its identity as bytes: the proof holds for fields unknown here as well."""

    identity: bytes
    mac: Mac


class Ready(Struct, array_like=True, tag=5):
    """The link is open; frames follow."""


class Refused(Struct, array_like=True, tag=6):
    """Instead of any other: the conversation is over."""

    reason: Word
    detail: Annotated[str, Meta(max_length=256)] = ""


class Refusal(Struct, frozen=True):
    """Why a node is not welcome: a constant reason, and a sentence that may go to the other one."""

    reason: str
    detail: str = ""


class HelloRefused(Exception):
    """The conversation is over: by this side, or by the other one (`is_theirs`; then both texts are theirs)."""

    def __init__(
        self, reason: str, detail: str = "", *, is_theirs: bool = False, peer: Identity | None = None
    ) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.is_theirs = is_theirs
        self.peer = peer  # once it was told; proven only if the reason comes after the proof


Admit = Callable[[Identity, bool], Refusal | None]

_Message = Hello | Challenge | Proof | Welcome | Ready | Refused
_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final[msgspec.msgpack.Decoder[_Message]] = msgspec.msgpack.Decoder(_Message)
_identities: Final = msgspec.msgpack.Decoder(Identity)
#: What decoding raises for bytes that are nothing of ours.
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Conversation:
    """What both sides have in common: `begin()` once, then `answer(data)` to each message until `is_done`.

    Raises HelloRefused; what `refusal()` makes of it is to be sent before the connection is closed, if it is ours.
    """

    is_dialler: bool

    def __init__(self, me: Identity, secret: bytes, nonce: bytes, admit: Admit) -> None:
        self.me = me
        self.peer = me  # until it has said who it is
        self.protocol = 0
        self.is_done = False
        self._secret = secret
        self._nonce = nonce
        self._admit = admit
        self._said = bytearray()

    def begin(self) -> bytes:
        """The first message of this side; none: it waits."""
        return b""

    def answer(self, data: bytes) -> bytes:
        """What to send in return, maybe nothing."""
        message = _read(data)
        if isinstance(message, Refused):
            raise HelloRefused(message.reason, message.detail, is_theirs=True, peer=self._told())
        return self._answer(message, data)

    def _answer(self, message: _Message, data: bytes) -> bytes:
        raise AssertionError

    def _told(self) -> Identity | None:
        return None if self.peer is self.me else self.peer

    def _refuse(self, reason: str, detail: str = "") -> HelloRefused:
        return HelloRefused(reason, detail, peer=self._told())

    def _unexpected(self) -> HelloRefused:
        return self._refuse(BAD_HELLO, "a message that has no place there")

    def _say(self, message: _Message) -> bytes:
        data = _encode(message)
        self._note(data)
        return data

    def _note(self, data: bytes) -> None:
        """Both sides have this in what they sign; lengths in front, so that no two stories read alike."""
        self._said += len(data).to_bytes(4, "big") + data

    def _mac(self, role: bytes, more: bytes = b"") -> bytes:
        return hmac.digest(self._secret, b"".join((role, b"\0", self._said, more)), "sha256")

    def _check_mac(self, mac: bytes, role: bytes, more: bytes = b"") -> None:
        if not hmac.compare_digest(mac, self._mac(role, more)):
            raise self._refuse(WRONG_SECRET)

    def _check_peer(self) -> None:
        refusal = compare(self.me, self.peer) or self._admit(self.peer, self.is_dialler)
        if refusal is not None:
            raise self._refuse(refusal.reason, refusal.detail)


class Dialler(Conversation):
    """The side that has connected."""

    is_dialler = True

    def begin(self) -> bytes:
        """Say who is there."""
        return self._say(Hello(PROTOCOLS, self._nonce, self.me))

    def _answer(self, message: _Message, data: bytes) -> bytes:
        if isinstance(message, Challenge) and not self.protocol:
            return self._prove(message, data)
        if isinstance(message, Welcome) and self.protocol:
            return self._join(message)
        raise self._unexpected()

    def _prove(self, challenge: Challenge, data: bytes) -> bytes:
        self._note(data)
        if challenge.incarnation == self.me.incarnation:
            raise self._refuse(SELF)
        if not PROTOCOLS[0] <= challenge.protocol <= PROTOCOLS[1]:
            raise self._refuse(NO_COMMON_PROTOCOL, f"this node speaks {PROTOCOLS[0]} to {PROTOCOLS[1]}")
        self.protocol = challenge.protocol
        self._challenger = challenge.node, challenge.incarnation
        return self._say(Proof(self._mac(_DIALLER)))

    def _join(self, welcome: Welcome) -> bytes:
        self._check_mac(welcome.mac, _LISTENER, welcome.identity)
        try:
            self.peer = _identities.decode(welcome.identity)
        except UNREADABLE as error:
            raise self._refuse(BAD_HELLO, "an identity that does not decode") from error
        if (self.peer.node, self.peer.incarnation) != self._challenger:
            raise self._refuse(BAD_HELLO, "two names in one conversation")
        if self.peer.cluster != self.me.cluster:
            raise self._refuse(OTHER_CLUSTER)
        self._check_peer()
        self.is_done = True
        return _encode(Ready())


class Listener(Conversation):
    """The side that was connected to."""

    is_dialler = False

    def _answer(self, message: _Message, data: bytes) -> bytes:
        if isinstance(message, Hello) and not self.protocol:
            return self._challenge(message, data)
        if isinstance(message, Proof) and self.protocol and not self._is_proven:
            return self._welcome(message, data)
        if isinstance(message, Ready) and self._is_proven:
            self.is_done = True
            return b""
        raise self._unexpected()

    _is_proven = False

    def _challenge(self, hello: Hello, data: bytes) -> bytes:
        self.peer = hello.identity
        self._note(data)
        if (
            self.peer.cluster != self.me.cluster
        ):  # the one thing said before the proof: what operators get wrong most
            raise self._refuse(OTHER_CLUSTER)
        self.protocol = min(hello.protocols[1], PROTOCOLS[1])
        if self.protocol < max(hello.protocols[0], PROTOCOLS[0]):
            raise self._refuse(NO_COMMON_PROTOCOL, f"this node speaks {PROTOCOLS[0]} to {PROTOCOLS[1]}")
        return self._say(Challenge(self._nonce, self.me.node, self.me.incarnation, self.protocol))

    def _welcome(self, proof: Proof, data: bytes) -> bytes:
        self._check_mac(proof.mac, _DIALLER)
        self._note(data)
        self._check_peer()
        self._is_proven = True
        identity = _encode(self.me)
        return self._say(Welcome(identity, self._mac(_LISTENER, identity)))


def _read(data: bytes) -> _Message:
    if len(data) > MAX_HELLO_BYTES:
        raise HelloRefused(BAD_HELLO, f"more than {MAX_HELLO_BYTES} bytes")
    try:
        return _decoder.decode(data)
    except UNREADABLE as error:
        raise HelloRefused(BAD_HELLO, "a message that does not decode") from error


def refusal(refused: HelloRefused) -> bytes:
    """The last message to the other side."""
    return _encode(Refused(refused.reason, refused.detail))


def compare(me: Identity, peer: Identity) -> Refusal | None:
    """Why two nodes of one cluster cannot work together, if so."""
    if peer.node == me.node:
        return Refusal(NAME_TAKEN, f"two nodes are called {me.node}")
    if peer.hash_version != me.hash_version:
        return Refusal(OTHER_HASH_VERSION, f"this node has {me.hash_version}, the other one {peer.hash_version}")
    mine, theirs = (me.memory_shards, me.durable_shards), (peer.memory_shards, peer.durable_shards)
    if mine != theirs:
        return Refusal(
            OTHER_SHARDS,
            "memory and durable shards: this node has {} and {}, the other one {} and {}".format(*mine, *theirs),
        )
    return None


def drift(me: Identity, peer: Identity) -> list[str]:
    """What differs and was not refused: names of settings, and `version`; in order."""
    names = [*me.configuration, *(name for name in peer.configuration if name not in me.configuration)]
    found = [name for name in names if me.configuration.get(name) != peer.configuration.get(name)]
    return found + ["version"] * (me.version != peer.version)


def make_identity(
    config: Config, incarnation: str, version: str, urls: Mapping[str, str] | None = None
) -> Identity:
    """This node as its settings have it; `urls` stand in for `advertise` and `cluster_advertise`."""
    known = urls or {}
    return Identity(
        cluster=config.cluster,
        node=config.node,
        incarnation=incarnation,
        memory_shards=config.memory_shards,
        durable_shards=config.durable_shards,
        durable=config.durable,
        version=version,
        advertise=config.advertise or known.get("advertise", ""),
        cluster_advertise=config.cluster_advertise or known.get("cluster_advertise", ""),
        configuration=configuration(config),
    )


def configuration(config: Config) -> dict[str, str]:
    """Digests of what every node should have alike."""
    return {name: _digest(getattr(config, name)) for name in SHARED_SETTINGS}


def make_incarnation(random_bytes: Callable[[int], bytes]) -> str:
    """The name of a life: 64 random bits."""
    return random_bytes(INCARNATION_BYTES).hex()


def _digest(value: object) -> str:
    return sha256(msgspec.json.encode(value)).hexdigest()[:16]


def parse_secret(text: bytes) -> bytes:
    """What a secret file holds, without the white space around it. Raises ValueError where it protects nothing."""
    secret = text.strip()
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"a cluster's secret has at least {MIN_SECRET_BYTES} bytes; there are {len(secret)}")
    if b"\0" in secret:
        raise ValueError("a cluster's secret is text: there is a zero byte in it")
    return secret
