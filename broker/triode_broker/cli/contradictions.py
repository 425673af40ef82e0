"""What can be wrong with settings whose types are all right: forms, and values that do not go together.

Knows a finished `Config`, not where its values came from. The surprising decision: the cluster's secret file is
opened here too. A node that cannot prove who it is would start, look well, and stay alone.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from triode_protocol.topics import BadTopic, check_filter, is_reserved

from triode_broker.cli.front_settings import front_problems
from triode_broker.cli.known_settings import row_name, shown
from triode_broker.cli.urls import is_url
from triode_broker.cli.webhook_settings import webhook_problems
from triode_broker.cluster.secret import HOW_TO_MAKE_ONE, BadSecret, read_secret
from triode_broker.config import DELIVERY_OVERHEAD_BYTES, EVERYWHERE, NOT_SAID, Config, Limits
from triode_broker.edge.listeners import parse_address
from triode_broker.edge.origins import ANY, parse_origin
from triode_broker.posture import is_loopback, unsafe
from triode_broker.printable import escape

#: Pairs of limits, the first not above the second: else what the one allows, the other never lets by.
_ORDERED = (
    ("max_packet_bytes", "max_frame_bytes"),
    ("max_packet_bytes", "max_outbox_bytes"),
    ("max_connect_bytes", "max_before_connect_bytes"),
    ("reconnect_min_ms", "reconnect_max_ms"),
)
_LISTEN_FOR_PEERS = "--cluster-listen HOST:7401 makes this node one of a cluster"

Problem = tuple[str, str]  # name of a setting, and how the sentence that begins with it goes on


def contradictions(config: Config, given: Mapping[str, object]) -> list[Problem]:
    """All that is wrong. `given`: the values that are set somewhere, by name."""
    addresses = [*_addresses(config, given)]
    return [
        *addresses,
        *_origins(config),
        *_data(config, given),
        *_limits(config.limits),
        *_quotas(config),
        *_topics(config),
        *_cluster(config),
        *_admin(config),
        *webhook_problems(config),
        *(_way_back(config) if not addresses else ()),
        *_durable(config, given),
        *_workers(config),
        *front_problems(config),
        *(_posture(config) if not addresses else ()),
    ]


def _origins(config: Config) -> Iterator[Problem]:
    for entry in config.origins:
        if entry != ANY and parse_origin(entry) is None:
            yield (
                "origins",
                f": {shown(entry)} is not an origin: write scheme://host or scheme://host:port, like"
                ' "https://chat.example.org" (names beyond ASCII as xn--…), or "*" for all',
            )


def _posture(config: Config) -> Iterator[Problem]:
    """What is refused because it is not safe."""
    for one in unsafe(config):
        if one.is_refused and not config.insecure:
            places = {"listen": config.listen, "admin.listen": config.admin.listen}
            value = f" = {shown(places[one.name])}" if one.name in places else ""
            yield one.name, f"{value}: {one.why}; --insecure starts it as it is"


def _addresses(config: Config, given: Mapping[str, object]) -> Iterator[Problem]:
    yield from _address("listen", config.listen)
    if config.cluster_listen:
        yield from _address("cluster_listen", config.cluster_listen)
    if config.admin.listen:
        yield from _address("admin.listen", config.admin.listen)
    if config.advertise:
        yield from _url("advertise", config.advertise, "wss://broker.example.org/ws")
    if given.get("cluster_advertise"):
        yield from _peer_url("cluster_advertise", config.cluster_advertise)
    for number, seed in enumerate(config.seeds):
        yield from _peer_url("seeds", seed)
        if seed in config.seeds[:number]:
            yield "seeds", f": {shown(seed)} is there twice"


def _address(name: str, address: str) -> Iterator[Problem]:
    try:
        parse_address(address)
    except ValueError as error:
        yield name, f": {error}"


def _peer_url(name: str, url: str) -> Iterator[Problem]:
    """Peers are found by scheme, host and port alone: their listener serves nothing else."""
    problem = next(_url(name, url, "ws://10.0.0.2:7401"), None)
    if problem is not None:
        yield problem
    elif urlsplit(url).port is None:
        yield name, f": {shown(url)} has no port: write ws://HOST:PORT, like ws://10.0.0.2:7401"
    elif urlsplit(url).path.strip("/"):
        yield name, f": {shown(url)} has a path, and nodes have none: write ws://HOST:PORT"


def _url(name: str, url: str, example: str) -> Iterator[Problem]:
    if not is_url(url, "ws", "wss"):
        yield name, f": {shown(url)} is not a ws:// or wss:// URL, like {example}"
    elif (parts := urlsplit(url)).username is not None or parts.query or parts.fragment:
        yield name, f": {shown(url)} holds more than scheme, host, port and path, like {example}"


def _data(config: Config, given: Mapping[str, object]) -> Iterator[Problem]:
    try:
        if config.data and not stat.S_ISDIR(os.stat(config.data).st_mode):
            yield "data", f" = {shown(config.data)}: is not a directory"
    except (FileNotFoundError, NotADirectoryError):
        pass  # it will be made, or whoever makes it says why not
    except (OSError, ValueError) as error:  # too long, a NUL, no right to look
        yield "data", f" = {shown(config.data)}: is no directory that can be used: {escape(str(error.args[-1]))}"
    for name in ("restored", "create_store"):
        if given.get(name) and not config.data:
            yield name, " = true: of which data? give its directory: --data DIR"


def _limits(limits: Limits) -> Iterator[Problem]:
    for low, high in _ORDERED:
        least, most = getattr(limits, low), getattr(limits, high)
        if least > most:
            yield f"limits.{low}", f" = {least}: allowed is at most limits.{high}, which is {most}"
    room = limits.max_packet_bytes + DELIVERY_OVERHEAD_BYTES
    if limits.max_packet_bytes <= limits.max_frame_bytes < room:
        wrong = f" = {limits.max_frame_bytes}: a message must fit with what surrounds it: at least {room}"
        yield "limits.max_frame_bytes", wrong


def _quotas(config: Config) -> Iterator[Problem]:
    limits = config.limits
    least = limits.max_inflight_publishes + limits.max_subscriptions
    if limits.max_refused_packets < least:
        wrong = f": allowed is at least what one client may have on its way, {least} packets (docs/limits.md)"
        yield "limits.max_refused_packets", f" = {limits.max_refused_packets}{wrong}"
    for number, row in enumerate(config.quotas, 1):
        for name in row.__struct_fields__:
            if name.startswith("tenant_") and (row.role or row.method) and getattr(row, name) != NOT_SAID:
                wrong = ": what a whole tenant may do stands in a row without role and method"
                yield row_name("quotas", number, name), f" = {getattr(row, name)}{wrong}"


def _topics(config: Config) -> Iterator[Problem]:
    limits = config.limits
    for number, rule in enumerate(config.topics, 1):
        try:
            check_filter(rule.filter, limits.max_topic_levels, limits.max_topic_bytes)
        except BadTopic as error:
            yield row_name("topics", number, "filter"), f" = {shown(rule.filter)}: not a filter: {error}"
        if rule.storage == "disk" and not config.data and not config.durable:
            wrong = ' = "disk": needs a directory: --data DIR (or data = "DIR" in the file)'
            yield row_name("topics", number, "storage"), wrong
        if is_reserved(rule.filter) and not rule.compact:
            wrong = f" = false: dead letters ({shown(rule.filter)}) need compact = true"
            yield row_name("topics", number, "compact"), wrong


def _cluster(config: Config) -> Iterator[Problem]:
    file, listens = config.cluster_secret_file, config.cluster_listen
    if file:
        try:
            read_secret(file)
        except BadSecret as error:
            yield "cluster_secret_file", f" = {shown(file)}: {error}"
    elif listens and not is_loopback(listens):
        wrong = ": others can reach this address, so nodes must prove that they belong here: "
        yield "cluster_listen", f" = {shown(listens)}{wrong}--cluster-secret-file FILE; {HOW_TO_MAKE_ONE}"
    if not listens:
        for name in ("cluster_advertise", *(["cluster_secret_file"] if config.workers == 1 else [])):
            if value := getattr(config, name):
                yield name, f" = {shown(value)}: there is no cluster; {_LISTEN_FOR_PEERS}"
    elif _same_port(config.listen, listens, max(config.workers, 1)):
        yield "cluster_listen", f" = {shown(listens)}: clients come in there: {shown(config.listen)} is `listen`"


def _admin(config: Config) -> Iterator[Problem]:
    admin = config.admin
    if not admin.listen:
        for name in ("token_file", "token_env"):
            if getattr(admin, name):
                yield f"admin.{name}", ": there is nothing to show it to: give admin.listen = HOST:PORT"
        if admin.tls.certificate:
            yield "admin.tls.certificate", ": there is no listener for it: give admin.listen = HOST:PORT"
        return
    if not (admin.token_file or admin.token_env):
        wrong = ": nobody is let in there without a secret: admin.token_file = FILE (triode token generate-secret)"
        yield "admin.listen", f" = {shown(admin.listen)}{wrong}"
    if admin.token_file and admin.token_env:
        yield "admin.token_file", ": and admin.token_env is given too: there is one secret"
    if _same_port(config.listen, admin.listen, 1):
        yield (
            "admin.listen",
            f" = {shown(admin.listen)}: clients come in there: {shown(config.listen)} is `listen`",
        )
    if config.cluster_listen and _same_port(admin.listen, config.cluster_listen, max(config.workers, 1)):
        yield "admin.listen", f" = {shown(admin.listen)}: nodes come in there: take another port"


def _way_back(config: Config) -> Iterator[Problem]:
    """Nodes dial each other, both ways."""
    listens, advertised = config.cluster_listen, config.cluster_advertise
    if listens and not advertised and listens.rpartition(":")[0] in EVERYWHERE:
        wrong = "others have to be told one address of this node: --cluster-advertise ws://HOST:7401"
        yield "cluster_listen", f" = {shown(listens)}: {wrong}"
    if listens and is_loopback(listens) and advertised in (f"ws://{listens}", f"wss://{listens}"):
        for seed in config.seeds:
            if not is_loopback(urlsplit(seed).netloc):
                wrong = (
                    f"is on another machine, from where {listens} cannot be reached: --cluster-listen HOST:7401"
                )
                yield "seeds", f": {shown(seed)} {wrong}"


def _same_port(listen: str, cluster_listen: str, count: int) -> bool:
    """Whether one address is both; each further worker takes one more port for its peers."""
    try:
        (host, port), (peer_host, peer_port) = parse_address(listen), parse_address(cluster_listen)
    except ValueError:
        return False  # told elsewhere
    everywhere = [one.strip("[]") for one in EVERYWHERE]
    meet = host == peer_host or host in everywhere or peer_host in everywhere
    return meet and peer_port != 0 and port in range(peer_port, peer_port + count)


def _durable(config: Config, given: Mapping[str, object]) -> Iterator[Problem]:
    durable = config.durable
    for number, node in enumerate(durable):
        if node in durable[:number]:
            yield "durable", f": {node} is there twice, and a node holds one durable shard"
    asked = given.get("durable_shards")
    if durable and asked not in (None, len(durable)):
        yield "durable_shards", f" = {asked}: durable names {len(durable)} nodes, and each holds one shard"
    if config.node in durable and not config.data:
        held = f"d{durable.index(config.node)}"
        yield "durable", f": this node, {config.node}, holds {held} and needs a directory for it: --data DIR"
    if not config.cluster_listen and set(durable) - {config.node}:
        yield "durable", f": names other nodes, and there is no cluster; {_LISTEN_FOR_PEERS}"
    if config.cluster_listen and config.data and not durable:
        wrong = ": in a cluster every node is told who holds the durable shards, and all the same: --durable n1,n2"
        yield "durable", f"{wrong} (here, if nobody else does: --durable {config.node})"


def _workers(config: Config) -> Iterator[Problem]:
    if config.workers == 1:
        return
    longest = 64 - len("-255")
    if len(config.node) > longest:
        yield "node", f" = {shown(config.node)}: workers add a number to it: allowed are {longest} characters"
    if config.cluster_listen:
        port = config.cluster_listen.rpartition(":")[2]
        if port.isascii() and port.isdigit() and int(port) <= 65_535 < int(port) + max(config.workers, 1) - 1:
            wrong = "each worker takes one port for its peers, counted up from this one"
            yield "cluster_listen", f" = {shown(config.cluster_listen)}: {wrong}"
