"""Virtual time and machines that are frozen: nothing of a stopped one runs, and everything of it goes on."""

import trio

from tests.sim.scheduling import Machine, passes, run


def test_stopped_machine_does_nothing_until_it_goes_on() -> None:
    ticks: list[float] = []
    calls: list[float] = []

    async def tick() -> None:
        while True:
            await passes(1)
            ticks.append(trio.current_time())

    async def begin() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)

    async def main() -> None:
        machine = Machine()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run, begin)
            await passes(2.5)
            machine.stop()
            machine.call(lambda: calls.append(trio.current_time()))
            await passes(10)
            assert ticks == [1, 2]
            assert not calls
            machine.go_on()
            assert calls == [12.5]
            await passes(1.6)
            nursery.cancel_scope.cancel()

    run(1, main)
    assert ticks == [1, 2, 12.5, 13.5]


def test_seed_decides_the_order_of_tasks() -> None:
    def order(seed: int) -> list[int]:
        done: list[int] = []

        async def note(number: int) -> None:
            done.append(number)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(note, number)

        run(seed, main)
        return done

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_what_a_call_starts_belongs_to_the_machine() -> None:
    ran: list[str] = []

    async def main() -> None:
        machine = Machine()
        async with trio.open_nursery() as nursery:

            async def started() -> None:
                await trio.lowlevel.checkpoint()
                ran.append("started")

            machine.call(lambda: nursery.start_soon(started))
            machine.stop()
            await passes(5)
            assert not ran
            machine.go_on()

    run(1, main)
    assert ran == ["started"]
