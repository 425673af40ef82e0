"""A job worker: counts the words of the texts that others publish under jobs/, and publishes the counts.

    python docs/examples/job_worker.py [ws://127.0.0.1:7400] [--folder .] [--retry-seconds 0.5]
    triode pub jobs/count '{"text": "to be or not to be"}' --json
    triode pub jobs/count '{"file": "hamlet.txt"}' --json

Start as many as you like: they share the durable subscription `counter`, each job goes to one of them, and a job
that is not acknowledged comes again. Needs a broker with a data directory (`triode serve --data DIR`).

A job that fails, because its file is not there, rests for a while, longer each time. After the fourth attempt it
is a dead letter, and one that makes no sense is one at once. When the file is there:

    triode dead list counter
    triode dead retry counter
"""

import argparse
import logging
import signal
from pathlib import Path

import trio
import triode

TASKS = 4  # jobs at a time in this process
MAX_ATTEMPTS = 4

log = logging.getLogger("job_worker")


class Worker:
    """What the tasks of this process share."""

    def __init__(self, client: triode.Client, folder: Path, retry_seconds: float) -> None:
        self._client = client
        self._folder = folder
        self._retry_seconds = retry_seconds

    async def work(self, jobs: triode.Deliveries) -> None:
        """One of the tasks that share the deliveries."""
        async for job in jobs:
            try:
                async with job:  # acknowledged at the end; given back when it fails or is cancelled
                    await self._do(job)
            except triode.TriodeError as error:  # the result could not be published: the job comes again
                log.warning("not done: %s", error)

    async def _do(self, job: triode.Delivery) -> None:
        match job.data:
            case {"text": str(text)}:
                await self._count_words(job, text)
            case {"file": str(name)}:
                try:
                    text = await trio.Path(self._folder / Path(name).name).read_text(encoding="utf-8")
                except OSError as error:  # it may be there later; others get this worker's time meanwhile
                    log.warning("attempt %d: %s", job.attempt, error)
                    await job.nack(self._retry_seconds * 2 ** (job.attempt - 1))
                else:
                    await self._count_words(job, text)
            case _:  # no attempt will ever succeed: to the dead letters
                await job.reject()

    async def _count_words(self, job: triode.Delivery, text: str) -> None:
        """A job may come twice, so its result has a message id that the job determines: it is stored once."""
        words = len(text.split())
        message_id = f"count-{job.message.log}.{job.message.pos}"
        await self._client.publish("counts", {"words": words}, message_id=message_id)
        log.info("counted %d words, attempt %d", words, job.attempt)


async def main(url: str, folder: Path, retry_seconds: float) -> None:
    """Work until the process is told to end; what is unfinished then goes back to the broker at once."""
    async with (
        triode.connect(url, name="job-worker") as client,
        client.consume(
            "jobs/#",
            durable="counter",
            shared=True,
            from_="earliest",
            window=2 * TASKS,
            max_attempts=MAX_ATTEMPTS,
        ) as jobs,
        trio.open_nursery() as nursery,
    ):
        worker = Worker(client, folder, retry_seconds)
        for _ in range(TASKS):
            nursery.start_soon(worker.work, jobs)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            log.info("working")
            await anext(aiter(signals))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    parser = argparse.ArgumentParser(description="Count words.")
    parser.add_argument("url", nargs="?", default="ws://127.0.0.1:7400")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the files of jobs are")
    parser.add_argument("--retry-seconds", type=float, default=0.5, help="after the first failure")
    arguments = parser.parse_args()
    trio.run(main, arguments.url, arguments.folder, arguments.retry_seconds)
