"""Which hosts are this machine itself: for the edge, for links between nodes, and for what is safe to listen on.

Knows names and addresses as text, and nothing of who asks. The surprising decision: of names only `localhost` is.
What DNS says of another may change after it was asked.
"""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=1_024)  # every connection asks; parsing takes 5 µs
def is_this_machine(host: str) -> bool:
    """Whether a host, an IPv6 address with or without its brackets, leads to this machine and to no other."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
