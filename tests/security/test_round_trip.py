"""S24-25: text that is accepted arrives byte for byte, through both clients, there and back; the rest is refused.

As topic, data, key, header and header's name. The texts are those of the shared vectors, those that have gone
wrong elsewhere, and arbitrary ones.
"""

import json
import random
import sys
import unicodedata
from pathlib import Path
from typing import Any, Final

import trio
import triode
from triode_protocol.topics import BadTopic, check_topic

from tests.browser.built import CLIENT, built_client
from tests.client.running import PATIENCE_SECONDS, running
from tests.protocol import vectors

#: In data nearly everything is allowed: what is odd in a topic is odd here too, and has to stay as it is.
ODD: Final = (
    *(
        "",
        " ",
        "\x00",
        "a\x00b",
        "\x7f\x85",
        "\u2028\u2029",
        "\ufeffa",
        "\u200b\u200d",
        "\u202eabc\u202c",
        "\u2067x",
    ),
    *(
        "e\u0301",
        "\u00e9",
        "\u1112\u1161\u11ab",
        "\u212b",
        "\U0001f600",
        "\U000e0041",
        "\uffff",
        "\ufdd0",
        "\U0010ffff",
    ),
    *(
        "__proto__",
        "constructor",
        "\\u0000",
        '"',
        "\\",
        "</script>",
        "\r\n",
        "\t",
        "%00",
        "null",
        "\u0378",
        "\ue000",
    ),
)
PROGRAM: Final = """
const { Triode } = await import("./dist/node.js");
const [, url, count] = process.argv;
const client = new Triode(url);
const hex = (text) => Buffer.from(text ?? "", "utf8").toString("hex");
const seen = [];
const got = new Promise((resolve) =>
  client.subscribe("there/#", (message) => {
    const { topic, data, key, headers } = message;
    const names = Object.entries(headers ?? {});
    seen.push([hex(topic), hex(data), hex(key), ...names.flat().map(hex)]);
    const back = client.publish(topic.replace("there", "back"), data, { key, headers });
    back.catch((error) => seen.push(String(error)));
    if (seen.length == +count) resolve();
  }).ready.then(() => client.publish("ready", 1)),
);
await got;
const refused = [];
for (const topic of ["a\\u0000", "e\\u0301", "\\u202ea", "a//b", "$x", "a/\\u200b", "a/\\ud800"])
  await client.publish(topic, 1).catch(({ name }) => refused.push(name));
const halves = await client.publish("halves", "\\ud800").then(() => "published", ({ name }) => name);
await new Promise((resolve) => client.subscribe("done", resolve).ready.then(() => client.publish("ready", 2)));
console.log(JSON.stringify({ seen, refused, halves }));
await client.close();
process.exit();
"""


def texts() -> list[str]:
    """For data: odd ones, and fifty of any characters that UTF-8 can carry."""
    chance = random.Random(24)
    code_points = [*range(0xD800), *range(0xE000, sys.maxunicode + 1)]
    return [*ODD, *("".join(map(chr, chance.choices(code_points, k=8))) for _ in range(50))]


def is_topic(text: str) -> bool:
    """By the rules of SPEC 6."""
    try:
        check_topic(text)
    except BadTopic:
        return False
    return True


def topics() -> list[str]:
    """The vectors', as far as there is room for a level more; and levels of all that may stand in one."""
    allowed = [chr(point) for point in range(0x21, 0x30000) if is_topic(f"a{chr(point)}")]
    chance = random.Random(25)
    mixed = [unicodedata.normalize("NFC", "".join(chance.choices(allowed, k=12))) for _ in range(50)]
    known = [case["topic"] for case in vectors.cases("topics.json", "valid")]
    return [topic for topic in (*known, *mixed) if is_topic(f"there/{topic}")]


def messages() -> list[dict[str, Any]]:
    """Every topic and every text, each at some place."""
    said, names = texts(), topics()
    most = max(len(said), len(names))
    chance = random.Random(26)
    return [
        {
            "topic": names[number % len(names)],
            "data": said[number % len(said)],
            "key": chance.choice(said) or "k",
            "headers": {chance.choice(said) or "h": chance.choice(said)},
        }
        for number in range(most)
    ]


def accepted(message: dict[str, Any]) -> list[str]:
    """What of it the broker has to carry, as hexadecimal UTF-8."""
    ((name, value),) = message["headers"].items()
    parts = (f"there/{message['topic']}", message["data"], message["key"], name, value)
    return [part.encode().hex() for part in parts]


async def test_s24_s25_what_is_accepted_comes_back_as_it_was_said_by_both_clients(tmp_path: Path) -> None:
    """S24-25, SPEC 1.9, 6.1, 6.2: from Python to JavaScript and back; what is refused is refused to both."""
    built_client(tmp_path)
    sent: list[dict[str, Any]] = []
    async with (
        running() as url,
        triode.connect(url) as client,
        client.subscribe("back/#") as back,
        client.subscribe("ready") as ready,
    ):
        with trio.fail_after(PATIENCE_SECONDS):
            checked = [one for one in messages() if await is_taken(client, one)]
            command = ["node", "--input-type=module", "--eval", PROGRAM, "--"]
            command += [url.replace("http", "ws", 1), str(len(checked))]
            async with trio.open_nursery() as nursery:
                done = await nursery.start(run, command)
                await anext(aiter(ready))
                for message in checked:
                    topic = f"there/{message['topic']}"
                    more = {"key": message["key"], "headers": message["headers"]}
                    await client.publish(topic, message["data"], **more)
                for _ in checked:
                    one = await anext(aiter(back))
                    topic = one.topic.removeprefix("back/")
                    sent.append({"topic": topic, "data": one.data, "key": one.key, "headers": dict(one.headers)})
                await anext(aiter(ready))
                await client.publish("done", 1)
    said = json.loads(done[0])
    assert said["seen"] == [accepted(message) for message in checked]
    assert sent == checked
    assert said["refused"] == ["bad_topic"] * 6 + ["TypeError"]
    assert said["halves"] == "TypeError"
    assert len(checked) > len(texts()) // 2


async def is_taken(client: triode.Client, message: dict[str, Any]) -> bool:
    """Whether the broker accepts it somewhere else; the client refuses nothing that the broker would take."""
    try:
        more = {"key": message["key"], "headers": message["headers"]}
        await client.publish(f"elsewhere/{message['topic']}", message["data"], **more)
    except triode.TriodeError:
        return False
    return True


async def run(command: list[str], task_status: trio.TaskStatus[list[str]]) -> None:
    """The program; what it prints is the list's."""
    printed: list[str] = []
    task_status.started(printed)
    done = await trio.run_process(command, cwd=CLIENT, capture_stdout=True, capture_stderr=True, check=False)
    assert not done.returncode, done.stderr.decode()[-2_000:]
    printed.append(done.stdout.decode())
