"""docs/examples/quotes: whoever comes when, fast or stopped, ends with the same last prices."""

import json
import signal

import trio
import triode

from tests.examples.programs import EXAMPLES, PATIENCE_SECONDS, Broker, Program, program

RECORDING = EXAMPLES / "quotes" / "feed.jsonl"
READERS = 40
#: The last price of each symbol in the recording.
LAST = {quote["product_id"]: quote["price"] for quote in map(json.loads, RECORDING.read_text().splitlines())}


async def board_has_last_prices(board: Program) -> None:
    shown: dict[str, str] = {}
    while shown != LAST:
        symbol, price, *_ = (await board.line()).split()
        if symbol != "--":
            shown[symbol] = price


async def reader_has_last_prices(url: str, task_status: trio.TaskStatus[None]) -> None:
    async with (
        triode.connect(url) as client,
        client.subscribe("quotes/+", from_="last", overflow="conflate") as messages,
    ):
        task_status.started()
        prices: dict[str, str] = {}
        with trio.fail_after(PATIENCE_SECONDS):
            while prices != LAST:
                message = await anext(messages)
                prices[message.key] = message.data["price"]


async def test_every_reader_ends_with_the_same_last_prices(broker: Broker) -> None:
    """G4, SPEC 3.2.5, 3.2.13, 3.4.16: some are there before, one is stopped meanwhile, one comes later."""
    url = broker.socket_url
    feed = ("quotes/quotes_feed.py", RECORDING, "--speed", "0", "--url", url)
    async with program("quotes/quotes_board.py", url) as board, program("quotes/quotes_board.py", url) as stopped:
        await board.until(lambda line: line.endswith("live --"))
        await stopped.until(lambda line: line.endswith("live --"))
        stopped.process.send_signal(signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            for _ in range(READERS):
                await nursery.start(reader_has_last_prices, url)
            async with program(*feed) as replay:
                assert await replay.line() == "published 240 quotes"
                await replay.ends()
            stopped.process.send_signal(signal.SIGCONT)
            await board_has_last_prices(board)
            await board_has_last_prices(stopped)
    async with program("quotes/quotes_board.py", url) as late:
        lines = [await late.line() for _ in range(len(LAST) + 1)]
        assert dict(line.split()[:2] for line in lines[:-1]) == LAST
        assert lines[-1] == "-- 8 symbols, live --"


async def test_feed_keeps_the_pace_of_the_recording(broker: Broker) -> None:
    """G3. Faster, for the test."""
    url = broker.socket_url
    async with (
        triode.connect(url) as client,
        client.subscribe("quotes/+") as messages,
        program("quotes/quotes_feed.py", RECORDING, "--speed", "50", "--url", url) as replay,
    ):
        with trio.fail_after(PATIENCE_SECONDS):
            quotes = [await anext(messages) for _ in range(240)]
        await replay.ends()
    for symbol in LAST:
        times = [quote.data["time"] for quote in quotes if quote.key == symbol]
        assert times == sorted(times)
