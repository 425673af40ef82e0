"""Settings of `triode serve`: layers, errors that name key, value and what is allowed, nearest names."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from triode_broker.cli.known_settings import nearest, single_settings, tables, variable
from triode_broker.cli.settings import OTHER_VARIABLES, BadSettings, load
from triode_broker.config import Config, TopicRule


def config_file(folder: Path, text: str) -> Path:
    file = folder / "triode.toml"
    file.write_text(text)
    return file


def problems(file: Path | None = None, environ: dict[str, str] | None = None, **flags: object) -> list[str]:
    with pytest.raises(BadSettings) as caught:
        load(flags, environ, file)
    return caught.value.problems


def test_nothing_set_is_the_defaults() -> None:
    settings = load()
    assert settings.config == Config()
    assert settings.sources == {}


def test_each_layer_wins_over_the_one_below(tmp_path: Path) -> None:
    file = config_file(tmp_path, 'listen = "127.0.0.1:1"\nnode = "file"\ndata = ""\nlog_level = "debug"')
    environ = {"TRIODE_LISTEN": "127.0.0.1:2", "TRIODE_NODE": "env"}
    settings = load({"listen": "127.0.0.1:3", "node": None}, environ, file)
    assert (settings.config.listen, settings.config.node) == ("127.0.0.1:3", "env")
    assert settings.config.log_level == "debug"
    assert settings.sources["listen"] == "--listen"
    assert settings.sources["node"] == "environment TRIODE_NODE"
    assert settings.sources["log_level"] == str(file)


def test_environment_reaches_into_tables_and_reads_numbers_and_booleans() -> None:
    environ = {"TRIODE_LIMITS_MAX_PACKET_BYTES": "131072", "TRIODE_DEMO": "true", "TRIODE_MEMORY_SHARDS": "4"}
    config = load(environ=environ).config
    assert config.limits.max_packet_bytes == 131_072
    assert config.demo is True
    assert config.memory_shards == 4


def test_topic_rules_are_read_in_order(tmp_path: Path) -> None:
    text = '[[topics]]\nfilter = "logs/#"\nretention_seconds = 60\n[[topics]]\nttl_seconds = 5'
    config = load(file=config_file(tmp_path, text)).config
    assert config.topics == (TopicRule(filter="logs/#", retention_seconds=60), TopicRule(ttl_seconds=5))


@pytest.mark.parametrize("name", sorted(single_settings()))
def test_every_setting_can_be_given_by_a_variable_of_its_own(name: str) -> None:
    default: Any = load().config
    for part in name.split("."):
        default = getattr(default, part)
    text = str(default).lower() if isinstance(default, bool) else str(default)
    text = ",".join(default) if isinstance(default, tuple) else text
    settings = load(environ={variable(name): text})
    assert settings.config == Config()
    assert list(settings.sources) == [name]


def test_a_list_is_an_array_in_the_file_and_separated_by_commas_elsewhere(tmp_path: Path) -> None:
    file = config_file(tmp_path, 'seeds = ["ws://[::1]:1", "ws://[::1]:2"]')
    assert load(file=file).config.seeds == ("ws://[::1]:1", "ws://[::1]:2")
    settings = load(environ={"TRIODE_SEEDS": " ws://[::1]:3, ws://[::1]:4,"}, file=file)
    assert settings.config.seeds == ("ws://[::1]:3", "ws://[::1]:4")
    settings = load(
        {"seeds": ["ws://[::1]:5", "ws://[::1]:6,ws://[::1]:7"]}, {"TRIODE_SEEDS": "ws://[::1]:3"}, file
    )
    assert settings.config.seeds == ("ws://[::1]:5", "ws://[::1]:6", "ws://[::1]:7")
    assert settings.sources["seeds"] == "--seed"
    assert load(environ={"TRIODE_SEEDS": ""}, file=file).config.seeds == ()


def test_variables_of_settings_do_not_collide() -> None:
    names = [variable(name) for name in (*single_settings(), *tables())]
    assert len({*names, *(f"TRIODE_{other}" for other in OTHER_VARIABLES)}) == len(names) + len(OTHER_VARIABLES)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('listn = "x"', "unknown key listn; did you mean listen?"),
        ("max_packet_bytes = 1", "unknown key max_packet_bytes; did you mean limits.max_packet_bytes?"),
        ("[limit]\nping_ms = 1", "unknown key limit; did you mean limits?"),
        ("[limits]\npng_ms = 1", "unknown key limits.png_ms; did you mean limits.ping_ms?"),
        ('[[topics]]\nretention_second = 1\nfilter = "a"', "unknown key retention_second in [[topics]] #1;"),
        ("zzzzzz = 1", "unknown key zzzzzz"),
        ("[limits]\nping_ms = 0", "limits.ping_ms = 0: allowed is a whole number of at least 1"),
        ('[limits]\nping_ms = "25 s"', 'limits.ping_ms = "25 s": allowed is a whole number of at least 1'),
        ("[limits]\nping_ms = 2.5", "limits.ping_ms = 2.5: allowed is a whole number of at least 1"),
        ("[limits]\nping_ms = true", "limits.ping_ms = true: allowed is a whole number of at least 1"),
        ("memory_shards = 65", "memory_shards = 65: allowed is a whole number from 1 to 64"),
        ('demo = "yes"', 'demo = "yes": allowed is true or false'),
        ("data = 5", "data = 5: allowed is text"),
        ('node = "N 1"', 'node = "N 1": allowed is text of the form ^[a-z0-9-]{1,64}$'),
        ('log_level = "loud"', 'log_level = "loud": allowed is debug, info, warning or error'),
        ('seeds = "ws://[::1]:1"', 'seeds = "ws://[::1]:1": allowed is a list of texts'),
        ("seeds = [1]", "seeds = [1]: allowed is a list of texts"),
        ('durable = ["N1"]', 'durable = ["N1"]: allowed is a list of texts of the form ^[a-z0-9-]{1,64}$'),
        ("limits = 5", "limits = 5: allowed is a table, [limits]"),
        ("topics = 5", "topics = 5: allowed are tables, each under [[topics]]"),
        ('[[topics]]\nfilter = "a"\n[[topics]]\nttl_seconds = -1', "topics #2 ttl_seconds = -1: allowed is"),
        ('[[topics]]\nfilter = "a/#/b"', 'topics #1 filter = "a/#/b": not a filter: # stands alone'),
        ("listen =", "not TOML: "),
        ('node = "n1"\nnode = "n2"', "not TOML: "),
        ("workers = " + "9" * 5_000, "not TOML: "),
        ('"\\u001b[2J" = 1', "unknown key \\u001b[2J"),
    ],
)
def test_a_wrong_file_is_told_by_key_value_and_what_is_allowed(tmp_path: Path, text: str, problem: str) -> None:
    file = config_file(tmp_path, text)
    (found,) = problems(file)
    assert found.startswith(f"{file}: {problem}")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("TRIODE_LISTN", "x", "environment: unknown variable TRIODE_LISTN; did you mean TRIODE_LISTEN?"),
        (
            "TRIODE_PING_MS",
            "1",
            "environment: unknown variable TRIODE_PING_MS; did you mean TRIODE_LIMITS_PING_MS?",
        ),
        (
            "TRIODE_LIMITS_PING_MS",
            "soon",
            'environment TRIODE_LIMITS_PING_MS: limits.ping_ms = "soon": allowed is',
        ),
        ("TRIODE_TOPICS", "x", "environment TRIODE_TOPICS: [[topics]] can only be set in the file"),
        ("TRIODE_PORT", "7400", "environment: unknown variable TRIODE_PORT"),
    ],
)
def test_a_wrong_variable_is_told(key: str, value: str, problem: str) -> None:
    (found,) = problems(environ={key: value, "PATH": "/bin"})
    assert found.startswith(problem)


def test_variables_that_are_not_settings_pass() -> None:
    environ = {"TRIODE_URL": "ws://x/ws", "TRIODE_TOKEN": "secret", "TRIODE_CONFIG": "x", "TRIODEX": "y"}
    assert load(environ=environ).config == Config()


def test_kubernetes_service_links_pass() -> None:
    environ = {
        "TRIODE_SERVICE_HOST": "10.0.0.1",
        "TRIODE_SERVICE_PORT": "7400",
        "TRIODE_SERVICE_PORT_WS": "7400",
        "TRIODE_PORT": "tcp://10.0.0.1:7400",
        "TRIODE_PORT_7400_TCP_ADDR": "10.0.0.1",
        "TRIODE_PEERS_SERVICE_HOST": "10.0.0.2",
        "TRIODE_PEERS_PORT_7401_TCP": "tcp://10.0.0.2:7401",
    }
    assert load(environ=environ).config == Config()


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    file = config_file(tmp_path, 'listn = "x"\n[limits]\nping_ms = 0\npong_ms = 1')
    assert len(problems(file, {"TRIODE_X": "1"}, node="UPPER")) == 5


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.toml") == [
        f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory"
    ]
    (tmp_path / "latin.toml").write_bytes(b'node = "\xe9"')
    assert "not TOML" in problems(tmp_path / "latin.toml")[0]


def test_a_byte_order_mark_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "bom.toml").write_bytes(b'\xef\xbb\xbfnode = "n7"')
    assert load(file=tmp_path / "bom.toml").config.node == "n7"


def test_a_limit_above_the_one_that_bounds_it_is_told() -> None:
    (found,) = problems(environ={"TRIODE_LIMITS_MAX_FRAME_BYTES": "1000"})
    assert found == "limits.max_packet_bytes = 65536: allowed is at most limits.max_frame_bytes, which is 1000"
    (found,) = problems(environ={"TRIODE_LIMITS_MAX_FRAME_BYTES": "65536"})
    assert found.endswith("a message must fit with what surrounds it: at least 66560")
    (found,) = problems(environ={"TRIODE_LIMITS_RECONNECT_MIN_MS": "90000"})
    assert found.startswith("environment TRIODE_LIMITS_RECONNECT_MIN_MS: limits.reconnect_min_ms = 90000: allowed")


def test_filters_are_judged_by_the_configured_bounds(tmp_path: Path) -> None:
    text = '[[topics]]\nfilter = "1/2/3/4/5/6/7/8/9"'
    assert "8 levels" in problems(config_file(tmp_path, text))[0]
    assert load(environ={"TRIODE_LIMITS_MAX_TOPIC_LEVELS": "9"}, file=config_file(tmp_path, text))


def test_data_that_is_no_directory_is_told(tmp_path: Path) -> None:
    file = config_file(tmp_path, "")
    assert problems(data=str(file)) == [f'--data: data = "{file}": is not a directory']


@pytest.mark.parametrize("listen", ["", "7400", "localhost:", "localhost:65536", "::1:7400", "a:٣", "a:-1"])
def test_a_listen_address_without_host_or_port_is_told(listen: str) -> None:
    (found,) = problems(listen=listen)
    assert found.startswith(f"--listen: listen: {listen!r} is not an address: ")


def test_nearest_is_silent_when_nothing_is_near() -> None:
    assert nearest("qqqq", list(single_settings())) == ""


def test_topics_on_disk_need_a_directory(tmp_path: Path) -> None:
    file = config_file(tmp_path, '[[topics]]\nfilter = "a"\n[[topics]]\nfilter = "jobs/#"\nstorage = "disk"')
    (problem,) = problems(file)
    assert problem == (
        f'{file}: topics #2 storage = "disk": needs a directory: --data DIR (or data = "DIR" in the file)'
    )
    assert load({"data": str(tmp_path / "data")}, {}, file).config.topics[1].storage == "disk"


def test_dead_letters_are_a_compacted_topic(tmp_path: Path) -> None:
    rule = '[[topics]]\nfilter = "$dead/#"\nretention_messages = 5\n'
    (problem,) = problems(config_file(tmp_path, rule))
    assert problem.endswith('topics #1 compact = false: dead letters ("$dead/#") need compact = true')
    assert load(file=config_file(tmp_path, rule + "compact = true")).config.topics[0].retention_messages == 5


def test_restored_needs_to_be_told_what() -> None:
    (problem,) = problems(restored=True)
    assert problem == "--restored: restored = true: of which data? give its directory: --data DIR"


def test_what_a_rule_leaves_out_goes_by_its_storage_class(tmp_path: Path) -> None:
    text = '[[topics]]\nfilter = "a"\nstorage = "disk"\n[[topics]]\nfilter = "b"\nretention_seconds = -1'
    on_disk, in_memory = load({"data": "d"}, {}, config_file(tmp_path, text)).config.topics
    assert (on_disk.retention_seconds, in_memory.retention_seconds) == (604_800, 300)


def test_storage_is_one_of_two(tmp_path: Path) -> None:
    (problem,) = problems(config_file(tmp_path, '[[topics]]\nstorage = "disc"'))
    assert problem.endswith('topics #1 storage = "disc": allowed is memory or disk')


def test_s14_a_file_that_the_reader_cannot_get_to_the_end_of_is_a_problem_like_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1: found by fuzzing; what brings the standard library's reader there is not told here."""

    def give_up(text: str) -> None:
        raise RecursionError

    monkeypatch.setattr(tomllib, "loads", give_up)
    file = tmp_path / "triode.toml"
    file.write_text("")
    with pytest.raises(BadSettings, match="nested too deeply"):
        load(file=file)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            'role = "x"\ntenant_max_connections = 5',
            "tenant_max_connections = 5: what a whole tenant may do stands in",
        ),
        ('method = "key"\ntenant_bytes_per_second = 0', "tenant_bytes_per_second = 0: what a whole tenant may do"),
        (
            'method = "magic"',
            'method = "magic": allowed is "", open, anonymous, token, key, callout or certificate',
        ),
        ("publishes_per_second = -2", "publishes_per_second = -2: allowed is a whole number of at least -1"),
    ],
)
def test_quotas_that_cannot_hold_are_refused(tmp_path: Path, row: str, problem: str) -> None:
    """S14."""
    with pytest.raises(BadSettings, match="quotas #1") as refused:
        load(file=config_file(tmp_path, f"[[quotas]]\n{row}"))
    assert problem in str(refused.value)


def test_clients_are_not_closed_for_less_than_they_may_have_on_their_way(tmp_path: Path) -> None:
    """SPEC 11.7.4."""
    (problem,) = problems(config_file(tmp_path, "[limits]\nmax_refused_packets = 455"))
    assert "max_refused_packets = 455: allowed is at least what one client may have on its way, 456" in problem
    load(file=config_file(tmp_path, "[limits]\nmax_refused_packets = 456"))
