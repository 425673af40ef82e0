"""`triode bench`: what a broker does under a load: latencies, throughput, and whether anything is missing.

Starts processes that make the load, adds up what they say, prints. The surprising decision: even one process is
started as another one. So a measurement with one and with eight differ in nothing but their number.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import msgspec

from triode_broker.cli.bench_figures import Times, joined
from triode_broker.cli.connecting import url, urls
from triode_broker.cli.exit_codes import ExitCode, Failure
from triode_broker.cli.streams import say
from triode_broker.printable import escape
from triode_broker.release import install

LEAD_NS: Final = 200_000_000  # from "all are ready" to the start
BUSY: Final = 0.9  # of a core: then the load is what is measured


def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ExitCode:
    """Measure. Raises Failure."""
    if arguments.as_worker is not None:
        try:
            worker: ExitCode = import_module("triode_broker.cli.bench_worker").run_worker(arguments, environ)
        except Failure as failure:  # one of many says it, the one who has started them
            say(msgspec.json.encode({"failure": str(failure)}).decode() + "\n")
            return failure.code
        return worker
    urls(arguments, environ)
    plots = None if arguments.json == "-" else drawing()
    found = joined(_measure(arguments, environ))
    times: Times = found.pop("_times")
    what = ("publishers", "subscribers", "topics", "spread", "rate", "size", "duration", "window", "durable")
    settings = {name: getattr(arguments, name) for name in (*what, "no_ack", "processes")}
    report = {"url": url(arguments, environ), "settings": settings, **found}
    if arguments.json:
        _write(arguments.json, msgspec.json.format(msgspec.json.encode(report)))
    if plots is not None:
        say(as_text(report))
        if times.count:
            say("\n" + plots.spread(times) + "\n" + plots.timeline(found["timeline"], found["slot_ms"]))
    is_bad = found["missing"] or found["errors"] or found["repeated"] or found["disordered"]
    return ExitCode.FAILURE if is_bad else ExitCode.OK


def drawing() -> Any:
    """The part that draws. Raises Failure, with what to do, where its library is not installed."""
    try:
        return import_module("triode_broker.cli.bench_plots")
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in ("plotille", "rich"):
            raise
        message = f"the plots need plotille and rich: {install('cli')} (--json - does without)"
        raise Failure(ExitCode.USAGE, message) from None


def _write(place: str, text: bytes) -> None:
    if place == "-":
        say(text.decode() + "\n")
        return
    try:
        Path(place).write_bytes(text + b"\n")
    except OSError as error:
        raise Failure(ExitCode.FAILURE, f"--json {place}: {error.strerror}") from None


def _measure(arguments: argparse.Namespace, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """Have every process do its part. Raises Failure where one of them fails."""
    run_id = os.urandom(4).hex()
    command = [sys.executable, "-m", "triode_broker.cli", *sys.argv[1:], "--run", run_id]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for index in range(arguments.processes):
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            started.append(subprocess.Popen([*command, "--as-worker", str(index)], env=dict(environ), **pipes))
        for one in started:
            _line(one)
        start_ns = b"%d\n" % (time.monotonic_ns() + LEAD_NS)
        for one in started:
            assert one.stdin is not None
            one.stdin.write(start_ns)
            one.stdin.flush()
        return [_line(one) for one in started]
    finally:
        for one in started:
            one.kill()
            one.wait()
            for pipe in (one.stdin, one.stdout):
                if pipe is not None:
                    pipe.close()


def _line(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    found: dict[str, Any] = msgspec.json.decode(line) if line else {}
    if line and "failure" not in found:
        return found
    code = process.wait()
    known = ExitCode(code) if code in list(ExitCode) and code else ExitCode.FAILURE
    raise Failure(known, found.get("failure", "the load could not be made: it has said above why"))


def as_text(report: Mapping[str, Any]) -> str:
    """For people."""
    settings, seconds = report["settings"], report["seconds"] or 1.0
    pace = f"{settings['rate']:,.0f} messages/s" if settings["rate"] else "as fast as can be"
    lines = [
        f"{report['url']}: {settings['publishers']} publishers, {settings['subscribers']} subscribers,"
        f" {settings['topics']} topics, {settings['size']} bytes, {pace}, {settings['duration']:g} s",
        f"published   {report['published']:>12,} {report['published'] / seconds:>12,.0f}/s",
        f"delivered   {report['delivered']:>12,} {report['delivered'] / seconds:>12,.0f}/s",
        f"missing     {report['missing']:>12,}   repeated {report['repeated']:,}, out of order"
        f" {report['disordered']:,}, gaps told {report['gaps']:,}",
        _times("latency", report["latency"]),
        _times("ack", report["ack"]),
    ]
    if report["errors"]:
        lines.append("errors      " + ", ".join(f"{name} {count:,}" for name, count in report["errors"].items()))
    lines.append(f"load        {report['load_cpu']:>12.0%} of a core, the busiest of {settings['processes']}")
    if report["load_cpu"] > BUSY:
        lines.append("            the load was what was measured: more --processes, or a lower --rate")
    if not settings["rate"]:
        lines.append("            without a rate latencies leave out what a client that does not wait would see")
    return "".join(escape(line) + "\n" for line in lines if line)


def _times(name: str, times: Mapping[str, float]) -> str:
    if not times:
        return ""
    shown = [f"{part.removesuffix('_us')} {value / 1000:.2f}" for part, value in times.items() if part != "count"]
    return f"{name:<12}" + ", ".join(shown) + " ms"
