"""The hello, without any socket: who is let in, who is refused and why; nobody proves what he does not know.

S20: the secret is never told, a proof is worth nothing elsewhere, and what a stranger sends ends his own
conversation and nothing else.
"""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from triode_broker.cluster.frames import PROTOCOLS
from triode_broker.cluster.hello import (
    MAX_HELLO_BYTES,
    Challenge,
    Conversation,
    Dialler,
    Hello,
    HelloRefused,
    Identity,
    Listener,
    Proof,
    Ready,
    Refusal,
    Refused,
    Welcome,
    drift,
    make_identity,
    make_incarnation,
    parse_secret,
    refusal,
)
from triode_broker.config import Config, Limits, Permission, Quota, TopicRule

from tests.cluster.rig import SECRET, identity

N1, N2 = identity("n1"), identity("n2")
encode = msgspec.msgpack.encode


def admit(peer: Identity, is_dialler: bool) -> Refusal | None:
    return None


def dialler(me: Identity = N1, secret: bytes = SECRET, nonce: bytes = b"d" * 32, may: Any = admit) -> Dialler:
    return Dialler(me, secret, nonce, may)


def listener(me: Identity = N2, secret: bytes = SECRET, nonce: bytes = b"l" * 32, may: Any = admit) -> Listener:
    return Listener(me, secret, nonce, may)


def talk(one: Conversation, other: Conversation) -> list[bytes]:
    """All that is said until both are done, or one refuses and the other one has heard of it."""
    said = [one.begin()]
    speaker, hearer = one, other
    while said[-1]:
        speaker, hearer = hearer, speaker
        try:
            said.append(speaker.answer(said[-1]))
        except HelloRefused as refused:
            hear(hearer, refused)
            raise
    return said


def hear(other: Conversation, refused: HelloRefused) -> None:
    """The other side is told why, and knows that it was not its own decision."""
    with pytest.raises(HelloRefused) as heard:
        other.answer(refusal(refused))
    assert (heard.value.is_theirs, heard.value.reason) == (True, refused.reason)


def reason_of(one: Conversation, other: Conversation) -> tuple[str, str]:
    """Why it failed, in the words of the side that found it."""
    with pytest.raises(HelloRefused) as refused:
        talk(one, other)
    assert not refused.value.is_theirs
    return refused.value.reason, refused.value.detail


def test_two_nodes_of_a_cluster_come_to_know_each_other() -> None:
    one, other = dialler(), listener()
    talk(one, other)
    assert one.is_done
    assert other.is_done
    assert (one.peer, other.peer) == (N2, N1)
    assert one.protocol == other.protocol == PROTOCOLS[1]


def test_the_secret_is_in_nothing_that_is_said() -> None:
    assert not any(SECRET in message for message in talk(dialler(), listener()))


def test_two_nodes_without_a_secret_come_together() -> None:
    one = dialler(secret=b"")
    talk(one, listener(secret=b""))
    assert one.is_done


@pytest.mark.parametrize("mine", [b"", b"another secret than that", SECRET + b"x", SECRET[:-1]])
def test_another_secret_is_refused_and_nothing_more_is_said_about_it(mine: bytes) -> None:
    assert reason_of(dialler(secret=mine), listener()) == ("wrong_secret", "")
    assert reason_of(dialler(), listener(secret=mine)) == ("wrong_secret", "")


def test_a_node_of_another_cluster_is_refused() -> None:
    assert reason_of(dialler(identity("n1", cluster="other")), listener())[0] == "other_cluster"


@pytest.mark.parametrize("changed", [{"memory_shards": 4}, {"durable_shards": 3}])
def test_other_shards_are_refused_with_both_figures(changed: dict[str, int]) -> None:
    reason, detail = reason_of(dialler(identity("n1", **changed)), listener())
    assert reason == "other_shards"
    assert detail.startswith("memory and durable shards: this node has 8 and 1, the other one ")


def test_another_hash_version_is_refused() -> None:
    assert reason_of(dialler(identity("n1", hash_version=2)), listener())[0] == "other_hash_version"


def test_a_second_node_under_ones_own_name_is_refused() -> None:
    twin = identity("n2", incarnation="00000000000000ff")
    assert reason_of(dialler(twin), listener())[0] == "name_taken"


def test_a_node_that_dialled_itself_finds_out_before_it_proves_anything() -> None:
    assert reason_of(dialler(N1), listener(N1)) == ("self", "")


@pytest.mark.parametrize(
    ("theirs", "is_common"), [((2, 3), False), ((0, 0), False), ((1, 1), True), ((0, 7), True)]
)
def test_versions_that_overlap_agree_on_the_highest_common_one(theirs: tuple[int, int], is_common: bool) -> None:
    asked = listener()
    hello = encode(Hello(theirs, b"n" * 32, N1))
    if is_common:
        assert msgspec.msgpack.decode(asked.answer(hello), type=Challenge).protocol == 1
    else:
        with pytest.raises(HelloRefused, match="no_common_protocol"):
            asked.answer(hello)


def test_a_listener_cannot_choose_a_version_that_the_dialler_does_not_speak() -> None:
    one = dialler()
    one.begin()
    with pytest.raises(HelloRefused, match="no_common_protocol"):
        one.answer(encode(Challenge(b"n" * 32, "n2", N2.incarnation, 2)))


def test_a_node_that_the_other_one_does_not_admit_hears_why() -> None:
    def refuse(peer: Identity, is_dialler: bool) -> Refusal:
        return Refusal("name_taken", f"{peer.node} {is_dialler}")

    assert reason_of(dialler(may=refuse), listener()) == ("name_taken", "n2 True")
    assert reason_of(dialler(), listener(may=refuse)) == ("name_taken", "n1 False")


def test_nobody_is_admitted_or_told_of_the_cluster_before_the_proof() -> None:
    asked: list[str] = []

    def ask(peer: Identity, is_dialler: bool) -> None:
        asked.append(peer.node)

    rich = identity("n2", advertise="ws://inside:7400", cluster_advertise="ws://inside:7401")
    stranger, node = dialler(secret=b"guessed, and guessed wrong"), listener(rich, may=ask)
    challenge = node.answer(stranger.begin())
    with pytest.raises(HelloRefused):
        node.answer(stranger.answer(challenge))
    assert not asked
    assert b"inside" not in challenge


# S20: proofs in the wrong place


def test_a_listeners_own_words_sent_back_to_it_prove_nothing() -> None:
    """Reflection: two connections to one listener, each fed with what the other one got."""
    first, second = listener(nonce=b"1" * 32), listener(nonce=b"2" * 32)
    stranger = dialler(secret=b"")
    hello = stranger.begin()
    first.answer(hello)
    challenge = second.answer(hello)
    for words in (challenge, hello, encode(Welcome(b"", b"")), encode(Proof(b""))):
        with pytest.raises(HelloRefused):
            listener_after(hello).answer(words)
    with pytest.raises(HelloRefused, match="bad_hello"):
        first.answer(challenge)


def test_a_diallers_proof_is_no_listeners_proof() -> None:
    """An impostor at a seed's address gets one proof, and cannot welcome anybody with it."""
    one = dialler()
    one.begin()
    proof = msgspec.msgpack.decode(one.answer(encode(Challenge(b"l" * 32, "n2", N2.incarnation, 1))), type=Proof)
    with pytest.raises(HelloRefused, match="wrong_secret"):
        one.answer(encode(Welcome(encode(N2), proof.mac)))


def test_a_proof_is_worth_nothing_in_another_conversation() -> None:
    """Replay: the same dialler, word for word, before a listener with another nonce."""
    said = talk(dialler(), listener(nonce=b"1" * 32))
    later = listener(nonce=b"2" * 32)
    later.answer(said[0])
    with pytest.raises(HelloRefused, match="wrong_secret"):
        later.answer(said[2])


def test_a_proof_made_for_one_node_does_not_open_another_one() -> None:
    """An impostor at n3's address hands on what it gets to n2, with n2's nonce but its own name."""
    n2, one = listener(), dialler()
    challenge = msgspec.msgpack.decode(n2.answer(one.begin()), type=Challenge)
    renamed = encode(Challenge(challenge.nonce, "n3", "0" * 16, challenge.protocol))
    with pytest.raises(HelloRefused, match="wrong_secret"):
        n2.answer(one.answer(renamed))


def test_what_the_hello_said_cannot_be_changed_on_the_way() -> None:
    n2, one = listener(), dialler()
    hello = msgspec.msgpack.decode(one.begin(), type=Hello)
    hello.identity = identity("n1", cluster_advertise="ws://elsewhere:7401")
    challenge = n2.answer(encode(hello))
    with pytest.raises(HelloRefused, match="wrong_secret"):
        n2.answer(one.answer(challenge))


def test_the_welcomes_identity_cannot_be_changed_on_the_way() -> None:
    one, n2 = dialler(), listener()
    challenge = n2.answer(one.begin())
    welcome = msgspec.msgpack.decode(n2.answer(one.answer(challenge)), type=Welcome)
    welcome.identity = encode(identity("n2", version="9"))
    with pytest.raises(HelloRefused, match="wrong_secret"):
        one.answer(encode(welcome))


def test_a_listener_that_knows_the_secret_cannot_have_two_names() -> None:
    """The challenge says n2, the welcome n3."""

    class TwoNames(Listener):
        def _welcome(self, proof: Proof, data: bytes) -> bytes:
            self.me = identity("n3")
            return super()._welcome(proof, data)

    assert reason_of(dialler(), TwoNames(N2, SECRET, b"l" * 32, admit))[0] == "bad_hello"


def test_a_listener_of_another_cluster_is_refused_although_it_let_the_dialler_in() -> None:
    class Careless(Listener):
        def _welcome(self, proof: Proof, data: bytes) -> bytes:
            self.me = identity("n2", cluster="other")
            return super()._welcome(proof, data)

    assert reason_of(dialler(), Careless(N2, SECRET, b"l" * 32, admit))[0] == "other_cluster"


def test_an_identity_that_does_not_decode_is_refused_even_from_a_proven_node() -> None:
    class Broken(Listener):
        def _welcome(self, proof: Proof, data: bytes) -> bytes:
            self._note(data)
            return encode(Welcome(b"\xc1", self._mac(b"triode-peer listener 1", b"\xc1")))

    assert reason_of(dialler(), Broken(N2, SECRET, b"l" * 32, admit))[0] == "bad_hello"


# Whatever else is sent


@pytest.mark.parametrize(
    "word", [Ready(), Proof(b"x"), Welcome(b"", b"x"), Challenge(b"n" * 32, "n1", "0" * 16, 1)]
)
def test_a_listener_is_told_hello_first(word: Any) -> None:
    with pytest.raises(HelloRefused, match="bad_hello"):
        listener().answer(encode(word))


@pytest.mark.parametrize("word", [Ready(), Proof(b"x"), Welcome(b"", b"x"), Hello((1, 1), b"n" * 32, N2)])
def test_a_dialler_is_challenged_first(word: Any) -> None:
    one = dialler()
    one.begin()
    with pytest.raises(HelloRefused, match="bad_hello"):
        one.answer(encode(word))


def test_a_dialler_proves_once() -> None:
    """No oracle: it does not sign one nonce after the other."""
    one = dialler()
    one.begin()
    challenge = encode(Challenge(b"n" * 32, "n2", N2.incarnation, 1))
    one.answer(challenge)
    with pytest.raises(HelloRefused, match="bad_hello"):
        one.answer(challenge)


def test_ready_before_the_proof_opens_nothing() -> None:
    node = listener_after(dialler().begin())
    with pytest.raises(HelloRefused, match="bad_hello"):
        node.answer(encode(Ready()))
    assert not node.is_done


def test_a_message_over_its_bound_is_not_even_read() -> None:
    with pytest.raises(HelloRefused, match="more than 16384 bytes"):
        listener().answer(encode(Refused("x", "y" * MAX_HELLO_BYTES)))


def test_the_largest_identity_there_can_be_fits() -> None:
    most = identity(
        "n" * 64,
        incarnation="f" * 16,
        cluster="triode",
        durable=tuple("n" * 64 for _ in range(64)),
        version="v" * 64,
        advertise="a" * 255,
        cluster_advertise="c" * 255,
        configuration={f"{number:064}": "d" * 64 for number in range(64)},
    )
    one = dialler(most)
    talk(one, listener())
    assert one.is_done


@pytest.mark.parametrize(
    "changed",
    [
        {"node": "n1\n"},
        {"node": "N1"},
        {"incarnation": "f" * 15},
        {"incarnation": "f" * 16 + "\n"},
        {"cluster": ""},
    ],
)
def test_names_that_could_break_a_log_line_are_no_names(changed: dict[str, str]) -> None:
    """S27."""
    with pytest.raises(HelloRefused, match="bad_hello"):
        listener().answer(encode(Hello(PROTOCOLS, b"n" * 32, identity(**changed))))


def test_a_newer_node_may_say_more() -> None:
    """docs/peer-protocol.md: what is new stands behind what is known."""
    raw = msgspec.msgpack.decode(dialler().begin())
    raw[3].append({"a": "field of tomorrow"})
    raw.append("another one")
    node = listener()
    assert node.answer(encode(raw))
    assert node.peer == N1


@given(st.binary(max_size=200), st.booleans())
def test_bytes_that_are_no_hello_end_only_the_conversation(data: bytes, is_proven: bool) -> None:
    """S1, S22."""
    node = listener_after(dialler().begin()) if is_proven else listener()
    with pytest.raises(HelloRefused):
        node.answer(data)


@given(st.integers(0, 2**32))
def test_a_hello_changed_at_any_byte_opens_nothing(seed: int) -> None:
    """S1, S20."""
    source = random.Random(seed)
    one, other = dialler(), listener()
    target = source.randrange(4)
    said = one.begin()
    hearer: Conversation = other
    try:
        for step in range(4):
            if step == target:
                at = source.randrange(len(said))
                said = said[:at] + bytes([said[at] ^ source.randrange(1, 256)]) + said[at + 1 :]
            said = hearer.answer(said)
            hearer = one if hearer is other else other
    except HelloRefused:
        pass
    assert not (one.is_done and other.is_done)


# What is shown, and where it comes from


def test_drift_names_what_differs_and_was_not_refused() -> None:
    me = identity("n1", configuration={"limits": "1", "topics": "2"})
    peer = identity("n2", configuration={"limits": "1", "topics": "3", "new": "4"}, version="0.2.0")
    assert drift(me, peer) == ["topics", "new", "version"]
    assert drift(me, me) == []


def test_an_identity_follows_from_the_settings() -> None:
    life = make_incarnation(random.Random(1).randbytes)
    config = Config(node="n7", cluster="shop", durable=("n7", "n8"), memory_shards=4)
    me = make_identity(config, life, "1.2.3", {"advertise": "ws://a:1", "cluster_advertise": "ws://b:2"})
    assert (me.node, me.cluster, me.incarnation, me.version) == ("n7", "shop", life, "1.2.3")
    assert (me.memory_shards, me.durable_shards, me.durable) == (4, 2, ("n7", "n8"))
    assert (me.advertise, me.cluster_advertise) == ("ws://a:1", "ws://b:2")
    other = make_identity(msgspec.structs.replace(config, node="n8"), life, "1.2.3")
    assert drift(me, other) == []
    changed = msgspec.structs.replace(config, topics=(TopicRule("a"),), limits=Limits(max_connections=1))
    assert drift(me, make_identity(changed, life, "1.2.3")) == ["limits", "topics"]
    changed = msgspec.structs.replace(config, quotas=(Quota(),), permissions=(Permission(),))
    assert drift(me, make_identity(changed, life, "1.2.3")) == ["permissions", "quotas"]


def test_a_secret_file_that_protects_nothing_is_refused() -> None:
    """S14."""
    assert parse_secret(b"  0123456789abcdef\n") == b"0123456789abcdef"
    for text in (b"", b" \n", b"short", b"0123456789abcde\n", b"0123456789\0abcdef"):
        with pytest.raises(ValueError, match="a cluster's secret"):
            parse_secret(text)


def listener_after(hello: bytes) -> Listener:
    """One that has sent its challenge."""
    node = listener()
    node.answer(hello)
    return node
