"""`triode serve --check`: what it prints is true and can be read again."""

import tomllib
from pathlib import Path

import msgspec
import pytest
from triode_broker.cli.effective import ZEROS, as_toml, in_words
from triode_broker.cli.settings import load
from triode_broker.config import DEFAULT_QUOTAS, Quota, TopicRule


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "triode.toml"
    file.write_text(
        'node = "n7"\ndata = "dir\\\\with \\"quotes\\" \\u001b \\u007f é"\n'
        '[limits]\nping_ms = 9000\n[[topics]]\nfilter = "logs/#"\n[[topics]]\nfilter = "a/+"\nretention_bytes = 10'
    )
    return file


def test_the_effective_configuration_reads_back_as_itself(file: Path, tmp_path: Path) -> None:
    settings = load({"demo": True}, {"TRIODE_LIMITS_MAX_HEADERS": "7"}, file)
    again = tmp_path / "again.toml"
    again.write_text(as_toml(settings))
    assert load(file=again).config == settings.config


def test_lists_and_what_follows_from_them_read_back_too(tmp_path: Path) -> None:
    settings = load({"seeds": ["ws://localhost:1", "ws://[::1]:2"], "durable": ["n1,n2"], "data": "d"})
    lines = as_toml(settings).splitlines()
    assert 'seeds = ["ws://localhost:1", "ws://[::1]:2"]  # --seed' in lines
    assert 'cluster_listen = "127.0.0.1:7401"  # default with seeds' in lines
    assert 'cluster_advertise = "ws://127.0.0.1:7401"  # as cluster_listen' in lines
    assert "durable_shards = 2  # as many as durable names" in lines
    again = tmp_path / "again.toml"
    again.write_text("\n".join(lines))
    assert load(file=again).config == settings.config


def test_every_line_says_where_its_value_came_from(file: Path) -> None:
    lines = as_toml(load({"demo": True}, {"TRIODE_LIMITS_MAX_HEADERS": "7"}, file)).splitlines()
    assert f'node = "n7"  # {file}' in lines
    assert "demo = true  # --demo" in lines
    assert "max_headers = 7  # environment TRIODE_LIMITS_MAX_HEADERS" in lines
    assert f"ping_ms = 9000  # 9 s · {file}" in lines
    assert "max_packet_bytes = 65536  # 64 KiB · default" in lines
    assert f"retention_bytes = 10  # 10 bytes · {file}" in lines


def test_nothing_in_it_can_drive_a_terminal(file: Path) -> None:
    text = as_toml(load(file=file))
    assert all(line.isprintable() for line in text.split("\n"))
    assert tomllib.loads(text)["data"] == 'dir\\with "quotes" \x1b \x7f é'


def test_the_policy_without_rules_is_shown_and_is_the_default(tmp_path: Path) -> None:
    shown = as_toml(load())
    _, _, comments = shown.partition("# [[topics]]\n")
    assert '# filter = "#"' in comments
    assert "# retention_messages = 1000  # 0 = keeps none\n" in comments
    assert "# retention_bytes = 1048576  # 1 MiB · 0 = keeps none\n" in comments
    assert "# dedupe_seconds = 300  # 5 min · 0 = off\n" in comments
    file = tmp_path / "rule.toml"
    file.write_text("[[topics]]\n" + comments.replace("# ", "", 1).replace("\n# ", "\n"))
    assert load(file=file).config.topics == (TopicRule(),)


def test_every_number_of_a_rule_says_what_0_means() -> None:
    numbers = {name for name, value in msgspec.structs.asdict(TopicRule()).items() if type(value) is int}
    assert set(ZEROS) == numbers


def test_what_a_rule_retains_that_does_not_say_is_shown_by_storage_class() -> None:
    lines = as_toml(load()).splitlines()
    start = lines.index("# A rule whose retention is left out, or -1, retains what its storage class does:")
    memory, disk = lines[start + 1 : start + 3]
    assert memory.startswith("#   memory: retention_messages = 1000, retention_seconds = 300 (5 min), ")
    assert disk.endswith("retention_seconds = 604800 (7 d), retention_bytes = 1073741824 (1 GiB)")


def test_quotas_say_what_they_leave_to_others_and_the_rows_that_always_hold_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "quotas.toml"
    file.write_text('[[quotas]]\nrole = "vip"\npublishes_per_second = 9\n')
    text = as_toml(load(file=file))
    assert f"publishes_per_second = 9  # {file}\n" in text
    assert "bytes_per_second = -1  # as the next row says that fits · default\n" in text
    assert load(file=rewritten(tmp_path, text)).config.quotas == (Quota(role="vip", publishes_per_second=9),)
    _, _, comments = text.partition("# What no [[quotas]] in the file says")
    rows = comments.partition("\n")[2].partition("\n\n")[0].replace("\n# ", "\n").removeprefix("# ")
    assert load(file=rewritten(tmp_path, rows)).config.quotas == DEFAULT_QUOTAS


def rewritten(folder: Path, text: str) -> Path:
    """As a file of its own."""
    file = folder / "again.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("max_bytes", 0, "0 bytes"),
        ("max_bytes", 1_536, "1.5 KiB"),
        ("max_bytes", 2**31, "2 GiB"),
        ("ping_ms", 250, "250 ms"),
        ("ping_ms", 90_000, "1.5 min"),
        ("ttl_seconds", 86_400, "1 d"),
        ("max_headers", 64, ""),
    ],
)
def test_units_are_said_in_words(key: str, value: int, words: str) -> None:
    assert in_words(key, value) == words
