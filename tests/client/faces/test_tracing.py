"""Following a message, in every face (SPEC 4.12)."""

import triode

from tests.client.broker import Line
from tests.client.faces.face import Face, on_its_loop
from tests.client.faces.stage import Signal


@on_its_loop
async def test_program_is_told_what_becomes_of_its_message(face: Face) -> None:
    async def scene(line: Line) -> None:
        await line.accept()
        for _ in range(2):
            publish = await line.published(1)
            assert publish["trace"] is True
            hop = {"hop": "sent", "node": "n1", "at_us": 5, "kind": "live", "count": 2}
            await line.say({"type": "traced", "id": publish["id"], "hops": [hop], "end": "complete"})
        await line.goodbye()

    told: list[triode.Traced] = []
    async with face.playing(scene) as url, face.connect(url) as client:
        ended = Signal()

        def note(traced: triode.Traced) -> None:
            told.append(traced)
            if len(told) == 2:
                ended.set()

        place = await client.publish("a", 1, on_trace=note)
        await client.publish_nowait("a", 2, on_trace=note).wait()
        await face.wait(ended)
    assert told[0].message_id == place.message_id
    assert [(traced.hops[0].hop, traced.end) for traced in told] == [("sent", "complete")] * 2
