"""Figures from real texts of /proc, and from none."""

import pytest
from triode_broker.demo.figures import Figures, memory, network_bytes

LOADED = (0.3349, 0.5, 1.0)
MEMINFO = """MemTotal:       24684084 kB
MemFree:        23974940 kB
MemAvailable:   18513063 kB
HugePages_Total:       0
Hugepagesize:       2048 kB
"""
STAT = """cpu  {user} 10 400 {idle} 60 0 30 0 25 5
cpu0 7000 5 200 4000 30 0 15 0 0 0
intr 114930548 113199788
ctxt 1990473
"""
NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: {lo} 25290320    0    0    0     0          0         0 {lo} 25290320    0    0    0     0       0          0
"""  # noqa: E501  # as the kernel writes it
OTHERS = """  eth0: {eth} 12920    0    0    0     0          0         0   908243    8292    0    0    0     0       0          0
  wlan0:    1000      9    0    0    0     0          0         0      500       4    0    0    0     0       0          0
"""  # noqa: E501  # as the kernel writes it


def machine(texts: dict[str, str]) -> Figures:
    return Figures(read=texts.get, load_average=lambda: LOADED, cpus=4)


def files(*, user: int = 9_000, idle: int = 90_500, eth: int = 501_000) -> dict[str, str]:
    return {
        "/proc/stat": STAT.format(user=user, idle=idle),
        "/proc/meminfo": MEMINFO,
        "/proc/net/dev": NET_DEV.format(lo=7) + OTHERS.format(eth=eth),
    }


def test_first_reading_has_no_rates() -> None:
    assert machine(files()).take(10.0) == {
        "demo/host/load": {"load_1_minute": 0.33, "load_5_minutes": 0.5, "load_15_minutes": 1.0, "cpus": 4},
        "demo/host/memory": {
            "used_percent": 25.0,
            "available_bytes": 18_513_063 * 1024,
            "total_bytes": 24_684_084 * 1024,
        },
    }


def test_second_reading_has_rates_of_the_time_between() -> None:
    texts = files()
    figures = machine(texts)
    figures.take(10.0)
    texts.update(files(user=9_050, idle=90_650, eth=504_000))
    second = figures.take(12.0)
    assert second["demo/host/cpu"] == {"busy_percent": 25.0}
    assert second["demo/host/network"] == {"received_bytes_per_second": 1500, "sent_bytes_per_second": 0}


def test_rates_are_of_the_last_period_only() -> None:
    texts = files()
    figures = machine(texts)
    for at_seconds, user in enumerate((9_000, 9_100, 9_100)):
        texts.update(files(user=user, idle=90_500 + 100 * at_seconds))
        last = figures.take(float(at_seconds))
    assert last["demo/host/cpu"] == {"busy_percent": 0.0}


def test_counters_that_went_back_are_no_negative_rate() -> None:
    texts = files(idle=90_500)
    figures = machine(texts)
    figures.take(10.0)
    texts.update(files(idle=90_600, user=8_990, eth=0))
    second = figures.take(11.0)
    assert second["demo/host/cpu"] == {"busy_percent": 0.0}
    assert second["demo/host/network"]["received_bytes_per_second"] == 0


def test_two_readings_at_one_moment_have_no_rates() -> None:
    figures = machine(files())
    figures.take(10.0)
    assert set(figures.take(10.0)) == {"demo/host/load", "demo/host/memory"}


def test_network_counts_the_loopback_only_where_it_is_alone() -> None:
    assert network_bytes(NET_DEV.format(lo=7) + OTHERS.format(eth=501_000)) == (502_000, 908_743)
    assert network_bytes(NET_DEV.format(lo=7)) == (7, 7)


def test_a_system_without_proc_still_has_its_load() -> None:
    assert set(machine({}).take(1.0)) == {"demo/host/load"}


def test_a_system_without_anything_has_no_figures() -> None:
    figures = Figures(read=lambda path: None, load_average=lambda: None, cpus=1)
    assert figures.take(1.0) == {}


@pytest.mark.parametrize("text", ["", "\n", "cpu \n", "MemTotal: 0 kB\nMemAvailable: 0 kB\n", "eth0: x\n", "\x00"])
def test_texts_of_another_form_are_left_out(text: str) -> None:
    figures = machine(dict.fromkeys(("/proc/stat", "/proc/meminfo", "/proc/net/dev"), text))
    figures.take(1.0)
    assert set(figures.take(2.0)) <= {"demo/host/load", "demo/host/network"}


def test_memory_reads_what_this_kernel_writes() -> None:
    assert memory(MEMINFO)["total_bytes"] == 24_684_084 * 1024
