"""What takes bytes from outside, one module each; `ALL` are those that `test_fuzz.py` and `make fuzz` run."""

from tests.fuzz.running import Target
from tests.fuzz.targets.client import CLIENT
from tests.fuzz.targets.edge import EDGE
from tests.fuzz.targets.http import HTTP
from tests.fuzz.targets.packets import PACKETS
from tests.fuzz.targets.parsers import PARSERS
from tests.fuzz.targets.peers import HELLO, PEERS
from tests.fuzz.targets.settings import SETTINGS
from tests.fuzz.targets.tokens import TOKENS

ALL: tuple[Target, ...] = (EDGE, HTTP, PARSERS, PACKETS, PEERS, HELLO, SETTINGS, TOKENS, CLIENT)
