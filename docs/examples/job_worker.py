"""A job worker: counts the words of the texts that others publish under jobs/, and publishes the counts.

    python docs/examples/job_worker.py [ws://127.0.0.1:7400]
    triode pub jobs/count '{"text": "to be or not to be"}' --json

Start as many as you like: they share the durable subscription `counter`, each job goes to one of them, and a job
that is not acknowledged comes again. Needs a broker with a data directory (`triode serve --data DIR`).
"""

import logging
import signal
import sys

import trio
import triode

TASKS = 4  # jobs at a time in this process

log = logging.getLogger("job_worker")


async def work(client: triode.Client, jobs: triode.Deliveries) -> None:
    """One of the tasks that share the deliveries."""
    async for job in jobs:
        try:
            async with job:  # acknowledged at the end; given back when it fails or is cancelled
                match job.data:
                    case {"text": str(text)}:
                        await count_words(client, job, text)
                    case _:  # no attempt will ever succeed: to the dead letters
                        await job.reject()
        except triode.TriodeError as error:  # the result could not be published: the job comes again
            log.warning("not done: %s", error)


async def count_words(client: triode.Client, job: triode.Delivery, text: str) -> None:
    """A job may come twice, so its result has a message id that the job determines: it is stored once."""
    words = len(text.split())
    message_id = f"count-{job.message.log}.{job.message.pos}"
    await client.publish("counts", {"words": words}, message_id=message_id)
    log.info("counted %d words, attempt %d", words, job.attempt)


async def main(url: str) -> None:
    """Work until the process is told to end; what is unfinished then goes back to the broker at once."""
    async with (
        triode.connect(url, name="job-worker") as client,
        client.consume("jobs/#", durable="counter", shared=True, from_="earliest", window=2 * TASKS) as jobs,
        trio.open_nursery() as nursery,
    ):
        for _ in range(TASKS):
            nursery.start_soon(work, client, jobs)
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            log.info("working")
            await anext(aiter(signals))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:7400")
