"""Shows the prices of all symbols: the last ones first, then every change.

    python docs/examples/quotes/quotes_board.py [ws://127.0.0.1:7400]

One line for each quote: the symbol, its price, and whether that is up or down.
"""

import sys
from decimal import Decimal

import trio
import triode


async def main(url: str) -> None:
    """Print until the process is ended."""
    prices: dict[str, Decimal] = {}
    async with (
        triode.connect(url, name="quotes-board") as client,
        client.subscribe("quotes/+", from_="last", overflow="conflate") as messages,
    ):
        async for event in messages.events():
            match event:
                case triode.Message(data={"price": str(price)}):
                    symbol = event.topic.removeprefix("quotes/")
                    before, prices[symbol] = prices.get(symbol), Decimal(price)
                    print(f"{symbol:10}{price:>14} {sign(before, prices[symbol])}", flush=True)
                case triode.CaughtUp():
                    print(f"-- {len(prices)} symbols, live --", flush=True)
                case triode.Gap():  # conflated quotes are none: only the newest one is due
                    print(f"-- quotes are missing: {event.reason} --", flush=True)


def sign(before: Decimal | None, price: Decimal) -> str:
    """How a price has moved."""
    if before is None or before == price:
        return "="
    return "+" if price > before else "-"


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:7400")
