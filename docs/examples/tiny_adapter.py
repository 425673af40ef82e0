"""The conformance adapter of tiny_client.py: `triode conformance -- python docs/examples/tiny_adapter.py`.

Commands come from stdin, reports go to stdout, one JSON object a line. That is all there is to an adapter.
"""

import json
import sys
from typing import Any

from tiny_client import Client, Subscription

LACKS = [
    *("ask_token", "auth", "connect_timeout", "consume", "delay", "delete_key", "history"),
    *("presence", "publish_timeout", "send", "several_urls", "will"),
]
FIELDS = ("topic", "log", "pos", "offset", "data", "b64", "key", "headers", "message_id")


def report(event: str, **values: Any) -> None:
    """One line to the runner."""
    sys.stdout.write(json.dumps({"event": event, **values}) + "\n")
    sys.stdout.flush()


class Adapter:
    """Each command is a method of its name."""

    Client = Client

    def hello(self, version: int = 1) -> None:
        report("hello", version=1, client="tiny", lacks=LACKS)

    def reset(self) -> None:
        if hasattr(self, "client"):
            self.client.close(0)
        self.subscriptions: dict[str, Subscription] = {}
        report("reset")

    def connect(self, urls: list[str], token: str = "") -> None:
        self.subscriptions = {}
        self.client = self.Client(urls[0], report, token)
        self.client.start()

    def close(self) -> None:
        self.client.close()
        report("closed")

    def subscribe(self, subscription: str, filter: str, **wish: Any) -> None:
        def tell(event: str, **values: Any) -> None:
            said = {"subscription": subscription, **values}
            if event == "message":
                message = said.pop("message")
                said |= {name: message[name] for name in FIELDS if name in message}
                if "data" not in message and "b64" not in message:
                    said["deletes_key"] = True
            if event == "gap":
                gap = said.pop("gap")
                said |= {name: gap[name] for name in ("reason", "after", "topic", "from", "to") if name in gap}
            report(event, **said)

        self.subscriptions[subscription] = self.client.subscribe(filter, tell, **wish)

    def unsubscribe(self, subscription: str) -> None:
        self.client.unsubscribe(self.subscriptions[subscription])

    def position(self, subscription: str) -> None:
        report("position", subscription=subscription, position=self.subscriptions[subscription].position)

    def publish(self, ref: str, topic: str, **fields: Any) -> None:
        def tell(event: str, **values: Any) -> None:
            place = values.pop("place", {})
            names = ("log", "pos", "offset", "level", "duplicate", "delayed")
            report(event, ref=ref, **values, **{name: place[name] for name in names if name in place})

        self.client.publish(topic, tell, **fields)


def main(adapter: Adapter) -> None:
    """Until the runner ends."""
    for line in sys.stdin:
        command = json.loads(line)
        getattr(adapter, command.pop("command"))(**command)


if __name__ == "__main__":
    main(Adapter())
