"""The digest of a node's settings: the same on all nodes of a cluster that were set up alike.

Pure. What is a node's own (its name, addresses, directories, certificates, its log) is left out; secrets stand in
other files, and whoever can read these puts a hash of what is in them in the place of the file's name. The
surprising decision: 64 bits. It is compared by people, and nobody gains by two settings that look alike.
"""

from hashlib import sha256
from typing import Final

import msgspec

from triode_broker.config import Config
from triode_broker.config.effects import names, put, value_of

#: Of a node alone, whatever the others have.
NODES_OWN: Final = frozenset({
    "listen", "advertise", "workers", "node", "cluster_listen", "cluster_advertise", "cluster_secret_file",
    "seeds", "data", "restored", "create_store", "demo", "log_level", "log_format", "insecure", "admin_socket",
    "auth.callout_secret_file", "auth.callout_secret_env",  # what is in there may be short: its hash would tell it
})  # fmt: skip
#: Tables of which everything is.
_OWN_TABLES: Final = ("tls.", "cluster_tls.", "admin.")
#: What new settings are called that name files and addresses of a node.
_OWN_ENDS: Final = (".listen", "_socket")


def shared(config: Config) -> Config:
    """Its settings with everything that is a node's own as nobody has set it."""
    initial = Config()
    own = [name for name in names(Config) if is_own(name)]
    alike: Config = put(config, {name: value_of(initial, name) for name in own})
    return alike


def is_own(name: str) -> bool:
    """Whether this setting may differ from node to node."""
    return name in NODES_OWN or name.startswith(_OWN_TABLES) or name.endswith(_OWN_ENDS)


def digest(config: Config) -> str:
    """Of what `shared` has left."""
    return sha256(msgspec.json.encode(config)).hexdigest()[:16]
