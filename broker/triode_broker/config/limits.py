"""Bounds on what one connection, one topic and one node may take: `[limits]`."""

from typing import Annotated

from msgspec import Meta, Struct

from triode_broker.config.numbers import NotNegative, Positive


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on what one connection, one topic and one node may take."""

    # Packets and frames
    max_packet_bytes: Positive = 65_536  # of one packet of a client; beyond: `too_large`
    max_frame_bytes: Positive = 1_048_576  # of a WebSocket message, both directions; beyond: closed with 1009
    max_connect_bytes: Positive = 8_192  # of the connect packet; beyond: `too_large`, closed with 4000
    max_before_connect_bytes: Positive = (
        65_536  # all that is read until connect has succeeded; beyond: closed with 4000 (S2)
    )
    max_fragments: Positive = 1_024  # frames since the last complete message; beyond: closed with 1008 (S4)
    max_control_frames: Positive = 256  # WebSocket pings and pongs per ping_ms; beyond: closed with 1008 (S4)
    min_compressed_bytes: Positive = 256  # with `compression`: shorter packets go as they are

    # HTTP heads
    max_head_bytes: Positive = 8_192  # of an HTTP request; beyond: 400
    max_headers: Positive = 64  # of an HTTP request; beyond: 400

    # HTTP requests to services
    max_http_requests: Positive = 512  # in progress on this node; beyond: 503
    max_http_body_bytes: Positive = 1_048_576  # of a request, but for streams of lines; beyond: 413
    http_body_ms: Positive = 30_000  # until a request's body is whole, or between two parts of a stream; then 408
    http_idle_ms: Positive = 60_000  # between two requests of a connection; then it is closed

    # Presence and wills
    max_presence_state_bytes: Positive = 1_024  # of one member; beyond: `too_large`
    max_presence_members: Positive = 1_000  # of one topic on one node; beyond: `quota`
    max_presence_owed: Positive = 10_000  # members' changes kept for one slow connection; beyond: closed
    presence_debounce_ms: NotNegative = 1_000  # a lost connection's members stay so long
    max_will_delay_ms: NotNegative = 3_600_000  # beyond: `malformed`
    max_will_bytes: NotNegative = 16_777_216  # wills of lost connections that wait; beyond: published at once

    # Names
    max_topic_bytes: Annotated[int, Meta(ge=1, le=1_024)] = 255  # of a topic or filter; beyond: `bad_topic`
    max_topic_levels: Annotated[int, Meta(ge=1, le=16)] = 8  # of a topic or filter; beyond: `bad_topic`
    max_message_headers: NotNegative = 16  # of one message; beyond: `too_large`
    max_message_header_bytes: NotNegative = 4_096  # names and values of one message together; beyond: `too_large`

    # Connections
    max_connections: Positive = 100_000  # of this node; beyond: 503, or closed unheard
    max_subscriptions: Positive = 200  # of one connection; beyond: `quota`
    max_wildcard_subscriptions: Positive = 100  # of one connection; beyond: `quota`
    max_inflight_publishes: Positive = 256  # unacknowledged, of one connection; beyond: `inflight`
    max_outbox_bytes: Positive = (
        1_048_576  # waiting for one connection; beyond: nothing is read from it, its subscriptions leave live
    )
    max_conflated_bytes: Positive = (
        1_048_576  # newest messages kept for one slow `conflate` subscription; beyond: a gap
    )
    connect_timeout_ms: Positive = 5_000  # from accept to a successful connect; then closed with 4106
    close_timeout_ms: Positive = 5_000  # from our close frame to the peer's; then dropped
    drain_timeout_ms: Positive = 30_000  # an outbox over its bound; then closed with 4104
    ping_ms: Positive = 25_000  # between pings; silent for twice as long: closed with 4105

    # Credentials
    max_token_bytes: Positive = 8_192  # of a credential; beyond: `unauthorized`
    max_waiting_credentials: Positive = 1_024  # connections that wait for keys or a callout; beyond: unavailable
    max_callouts: Positive = 64  # asked at the same time; the others wait
    max_callout_bytes: Positive = 65_536  # of an answer
    max_callout_cache: Positive = 10_000  # answers that are kept

    # One network address; of IPv6 its first 64 bits. Not counted: this machine, trusted proxies
    max_address_connections: NotNegative = 10_000  # at once; 0 = max_connections. Many people share an address
    max_address_handshakes_per_second: NotNegative = 500  # 0 = as many as come
    max_address_handshake_burst: Positive = 5_000  # at once, after a quiet time

    # Storms of connects: what is beyond is told when to come back
    max_handshakes: NotNegative = (
        8_192  # connections that have not got through `connect`; beyond: 503; 0 = max_connections
    )
    max_connects_per_second: NotNegative = 2_000  # beyond: they wait; 0 = as many as come
    max_connect_burst: Positive = 5_000  # at once, after a quiet time
    max_connect_wait_ms: NotNegative = 2_000  # for its turn; clients that resume go first; then closed with 4102
    max_reconnect_after_ms: Positive = 60_000  # how far ahead those who are sent away are spread

    # Rates: how much is allowed stands in [[quotas]]; what is beyond is told when to come back
    rate_burst_ms: Positive = 1_000  # after a quiet time, what a rate allows in so long may come at once
    max_traces_per_second: NotNegative = 10  # publishes with `trace` of one connection; 0 = not offered
    max_refused_packets: Positive = (
        20_000  # of one connection over its rates, in refused_window_ms; beyond: closed with 4102
    )
    refused_window_ms: Positive = 10_000  # in which refused packets are counted

    # Readiness: what `/readyz` calls lagging behind
    ready_loop_lag_ms: NotNegative = 1_000  # the event loop comes so late; 0 = never a reason
    ready_queue_bytes: NotNegative = 16_777_216  # a disk has so much to take; 0 = never a reason
    lagging_after_ms: NotNegative = 3_000  # without a break, until it is said
    lagging_until_ms: NotNegative = 10_000  # below half of the bound without a break, until it is taken back

    # Drain: the node is taken out of service
    drain_delay_ms: NotNegative = 0  # not ready, and served as ever, before the first is sent away
    drain_window_ms: NotNegative = 10_000  # over which clients are sent to the other nodes; 0 = at once
    drain_alone_ms: NotNegative = 1_000  # the same where there is no other node: they come back to this one
    drain_reconnect_ms: NotNegative = 1_000  # over which each is told to spread its return

    # Peers: links between nodes
    max_peer_outbox_bytes: Positive = 8_388_608  # waiting for one peer; beyond: it reads; twice as much: closed
    max_peer_message_bytes: Positive = (
        4_194_304  # of a WebSocket message between nodes; beyond: the link is closed
    )
    peer_ping_ms: Positive = 1_000  # between pings to a peer
    peer_silent_ms: Positive = 10_000  # a link without a message for so long is closed
    peer_closed_ms: Positive = 3_000  # a node that nobody has a link with for so long is dead

    # Reconnects, as announced to clients
    reconnect_min_ms: Positive = 250  # the first pause before a reconnect is at most so long
    reconnect_max_ms: Positive = (
        20_000  # no pause is longer; who has too many connections is told to come back after it
    )

    # Logs
    max_history_messages: Positive = 1_000  # in one history reply; beyond: not `complete`
    max_shard_bytes: Positive = 67_108_864  # messages held by one memory shard; beyond: the oldest go
    max_shard_topics: Positive = 16_384  # topics one memory shard remembers; beyond: the quietest are forgotten
    recent_bytes: NotNegative = 4_194_304  # each memory shard keeps at least its newest messages, for resumes:
    recent_seconds: NotNegative = 30  # ... so many bytes, for so long
    max_dedupe_bytes: NotNegative = (
        16_777_216  # message ids remembered by one shard; beyond: the oldest are forgotten
    )
    match_cache_values: Positive = (
        2_000_000  # topics' subscribers remembered, over all topics; about 25 bytes each
    )

    # Logs on disk, each durable shard
    commit_messages: Positive = 256  # in one transaction; what one turn of the loop took stays together
    max_uncommitted_bytes: Positive = 16_777_216  # accepted and not on disk yet; beyond: `overloaded`

    # Delayed messages, each shard
    max_delay_seconds: NotNegative = (
        2_592_000  # how far ahead `deliver_at_ms` may lie; beyond: `too_large`; 0 = not offered
    )
    max_delayed_bytes: NotNegative = 16_777_216  # that wait; beyond: `quota`

    # Acknowledged subscriptions
    max_consumers: NotNegative = 10_000  # names of durable subscriptions and groups on this node; beyond: `quota`
    max_consumer_members: Positive = 1_000  # connections that share one name; beyond: `quota`
    max_consumer_bytes: Positive = (
        4_194_304  # messages held in memory for one name, in flight and read ahead; beyond: the others wait
    )
    default_window: Positive = 64  # deliveries in flight to one member
    max_window: Positive = 1_024  # beyond: `malformed`
    default_ack_wait_ms: Positive = 30_000  # until a delivery that nobody settles comes again
    max_ack_wait_ms: Positive = 43_200_000  # also how far ahead nack and extend may reach; beyond: `malformed`
    default_max_attempts: Positive = 20  # of one delivery; then it is a dead letter
    max_attempts: Positive = 1_000  # beyond: `malformed`
    abandoned_seconds: Positive = 604_800  # a durable subscription without members is deleted after so long

    # Events for webhooks
    max_waiting_events: Positive = 10_000  # that their shard has not taken; beyond: lost, which is told
    max_open_events: Positive = (
        100_000  # clients, members and topics remembered, to tell their end for a lost node
    )
    vacated_after_ms: NotNegative = 2_000  # a topic without subscriptions for so long is vacated

    # Revocations
    max_revocations: Positive = 10_000  # kept at once; those of other nodes come on top
