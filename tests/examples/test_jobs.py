"""docs/examples/job_worker.py: what fails comes again, then lies with the dead letters until somebody retries it.

That a dying worker loses no job, and doubles no result, is shown in tests/client/test_examples.py.
"""

import subprocess
from pathlib import Path

import trio
import triode

from tests.browser.processes import TRIODE
from tests.examples.programs import PATIENCE_SECONDS, Broker, program, says


def dead(broker: Broker, action: str) -> str:
    """`triode dead ACTION counter`, asked of the running broker."""
    command = [TRIODE, "dead", action, "counter", "--data", str(broker.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    return done.stdout


async def test_job_is_retried_becomes_a_dead_letter_and_is_retried_when_it_can_be_done(
    broker: Broker, tmp_path: Path
) -> None:
    """G5, SPEC 9.4.5, 9.8"""
    url = broker.socket_url
    async with (
        triode.connect(url) as client,
        client.subscribe("counts") as counts,
        program("job_worker.py", url, "--folder", tmp_path, "--retry-seconds", "0.01") as worker,
    ):
        await worker.until(lambda line: line.endswith("working"))
        async with client.subscribe("$dead/counter") as letters:
            await client.publish("jobs/count", "no job")
            await client.publish("jobs/count", {"file": "../hamlet.txt"})
            with trio.fail_after(PATIENCE_SECONDS):
                reasons = [(await anext(letters)).headers["triode-dead-reason"] for _ in range(2)]
        assert reasons == ["rejected", "max_attempts"]
        for attempt in range(1, 5):
            await worker.until(says(f"attempt {attempt}:"))
        listed = await trio.to_thread.run_sync(dead, broker, "list")
        assert "max_attempts" in listed
        assert "rejected" in listed
        (tmp_path / "hamlet.txt").write_text("to be or not to be")
        await trio.to_thread.run_sync(dead, broker, "retry")
        with trio.fail_after(PATIENCE_SECONDS):
            assert (await anext(counts)).data == {"words": 6}
