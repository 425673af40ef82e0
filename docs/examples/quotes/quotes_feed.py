"""Replays a recorded market feed: publishes each quote on the topic of its symbol.

    python docs/examples/quotes/quotes_feed.py docs/examples/quotes/feed.jsonl [--speed 1] [--url ws://127.0.0.1:7400]

The recording has one message a line, as Coinbase Exchange's WebSocket feed sends them; README.md has the rest.
"""

import argparse
import json
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import trio
import triode

IN_FLIGHT = 256  # publishes without an answer


def tickers(recording: Path) -> Iterator[dict[str, Any]]:
    """The messages of a recording that are quotes."""
    with recording.open(encoding="utf-8") as lines:
        for line in lines:
            message = json.loads(line)
            if message["type"] == "ticker":
                yield message


def quote(ticker: dict[str, Any]) -> dict[str, str]:
    """What readers are interested in. Prices stay the strings that they are: no digit gets lost."""
    return {
        "price": ticker["price"],
        "bid": ticker["best_bid"],
        "ask": ticker["best_ask"],
        "size": ticker["last_size"],
        "time": ticker["time"],
    }


async def replay(client: triode.Client, recording: Path, speed: float) -> int:
    """Publish it `speed` times as fast as it was (0: at once); returns how many, when all are acknowledged."""
    began = trio.current_time()
    first: datetime | None = None
    count = 0
    in_flight: deque[triode.Receipt] = deque()
    for ticker in tickers(recording):
        at = datetime.fromisoformat(ticker["time"])
        first = first or at
        if speed:
            await trio.sleep_until(began + (at - first).total_seconds() / speed)
        symbol = ticker["product_id"]
        in_flight.append(client.publish_nowait(f"quotes/{symbol}", quote(ticker), key=symbol))
        if len(in_flight) >= IN_FLIGHT:
            await in_flight.popleft().wait()
        count += 1
    for receipt in in_flight:
        await receipt.wait()
    return count


async def main() -> None:
    parser = argparse.ArgumentParser(description="Replay a recorded market feed.")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--speed", type=float, default=1.0, help="2: twice as fast; 0: as fast as it goes")
    parser.add_argument("--url", default="ws://127.0.0.1:7400")
    arguments = parser.parse_args()
    async with triode.connect(arguments.url, name="quotes-feed") as client:
        print(f"published {await replay(client, arguments.recording, arguments.speed)} quotes")


if __name__ == "__main__":
    trio.run(main)
