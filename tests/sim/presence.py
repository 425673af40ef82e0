"""Members of a room in the simulator: each is present, and keeps the list of who else is, as SPEC 10 says."""

from typing import Any

from tests.history.events import Packet
from tests.sim.clients import Client

ROOM = "room/1"
ASK_AGAIN_SECONDS = 0.5


class Member:
    """Present in the room under its own name, and a watcher of it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._members: dict[str, Any] = {}  # state by id
        self._is_known = False  # the list was asked for on this connection, and came whole
        client.role = self

    @property
    def name(self) -> str:
        """What its state says."""
        return self._client.who

    @property
    def present(self) -> list[str]:
        """Whom it takes to be there; nobody while it does not know."""
        return sorted(self._members.values()) if self._is_known else []

    def first(self) -> list[Packet]:
        """Enter."""
        self._is_known = False
        self._members = {}
        return [{"type": "subscribe", "sub": 1, "filter": ROOM, "presence": {"state": self.name}}]

    def got(self, t: int, packet: Packet) -> None:
        """10.2: changes apply in the order in which they come; 10.4: a list, asked for once in, replaces."""
        match packet["type"]:
            case "subscribed":
                self._ask()
            case "presence":
                self._members = {member["id"]: member["state"] for member in packet["members"]}
                self._is_known = packet["complete"]
                if not packet["complete"]:
                    self._client.post.later(ASK_AGAIN_SECONDS, self._ask)
            case "joined":
                self._members[packet["member"]["id"]] = packet["member"]["state"]
            case "left":
                self._members.pop(packet["member"]["id"], None)

    def _ask(self) -> None:
        if not self._is_known:
            self._client.send({"type": "presence", "topic": ROOM})

    def lost(self, t: int) -> None:
        """It knows nothing any more."""
        self._is_known = False
