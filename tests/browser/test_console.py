"""The console over real nodes: what every view shows of them, and what it does to them."""

import json
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.console_stage import ADMIN_SECRET, Client, Deaf, Node, token, two_nodes
from tests.browser.console_visit import Visit, visiting

pytestmark = pytest.mark.browser

MARKUP = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
KICKED, REVOKED = 4006, 4002


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """A cluster."""
    with two_nodes(tmp_path_factory.mktemp("console")) as nodes:
        yield nodes


@pytest.fixture
def node(nodes: tuple[Node, Node]) -> Node:
    """The one that is asked."""
    return nodes[0]


@pytest.fixture
def visit(browser: Browser, node: Node) -> Iterator[Visit]:
    """A tab that has come in."""
    with visiting(browser, node) as visit:
        yield visit


def test_wrong_secret_is_refused_and_the_right_one_comes_in(browser: Browser, node: Node) -> None:
    with visiting(browser, node, is_in=False) as visit:
        visit.open()
        secret = visit.page.get_by_label("Admin secret")
        secret.fill("a-guess")
        secret.press("Enter")
        expect(visit.page.get_by_role("status").first).to_have_text("This is not the secret of this node.")
        secret.fill(ADMIN_SECRET)
        visit.press("Come in")
        expect(visit.page.locator(".state")).to_have_text("Live")
        visit.page.reload()
        expect(visit.page.locator(".state")).to_have_text("Live")
        visit.press("Log out")
        expect(visit.page.get_by_label("Admin secret")).to_be_visible()
        assert visit.page.evaluate("sessionStorage.length") == 0
        (refused,) = visit.wrong  # the browser itself notes a 401
        assert "401" in refused
        visit.wrong.clear()


@pytest.mark.parametrize("shown", [{}, {"Authorization": "Bearer wrong"}, {"Cookie": f"token={ADMIN_SECRET}"}])
def test_s13_nothing_is_reachable_without_the_secret(node: Node, shown: dict[str, str]) -> None:
    """The files of the page are for everybody; they say nothing of a node."""
    for path in ("figures", "connections", "topics", "slow", "cluster", "durable", "revocations", "tenants"):
        with pytest.raises(HTTPError) as refused:
            urlopen(Request(f"http://127.0.0.1:{node.admin_port}/v1/{path}", headers=shown))
        assert refused.value.code == 401
        refused.value.close()


def test_overview_shows_rates(visit: Visit, node: Node) -> None:
    """Publishes of a real client are in the tile, and its topic among the busiest."""
    client = Client(node, "ada")
    client.subscribe("rates/#")
    visit.open()
    rate = visit.page.locator(".tile", has_text="Publishes/s").locator("strong")
    expect(rate).to_have_text("0")
    for number in range(200):
        client.publish("rates/a", number)
    expect(rate).not_to_have_text("0")
    expect(visit.page.get_by_role("img", name="Publish → ack: median").first).to_be_visible()
    expect(visit.page.locator(".list", has_text="Busiest topics")).to_contain_text("rates/a")
    expect(visit.page.locator(".tile", has_text="Connections").locator("strong")).not_to_have_text("0")
    client.close()


def test_cluster_is_a_picture_of_both_nodes(visit: Visit) -> None:
    visit.open("cluster")
    picture = visit.page.locator("svg.picture")
    expect(picture.locator("g.node")).to_have_count(2)
    expect(picture.locator("g.link.good")).to_have_count(1)
    expect(picture.locator("rect.shard.memory")).to_have_count(8)
    expect(picture.locator("rect.shard.disk")).to_have_count(2)
    visit.page.get_by_role("button", name="paris:").press("Enter")
    expect(visit.page.get_by_role("heading", name="Shards of paris")).to_be_visible()
    expect(visit.row("d1")).to_contain_text("paris")
    expect(visit.row("d0")).to_have_count(0)


def test_slow_subscriber_is_listed_with_the_reason_and_kicked(visit: Visit, nodes: tuple[Node, Node]) -> None:
    """It is on the other node: the console shows all of them."""
    deaf = Deaf(nodes[1], "sleepy", "flood/#")
    talker = Client(nodes[1], "talker")
    for _ in range(100):
        talker.publish("flood/a", "x" * 60_000)
    visit.open("connections?slow=1")
    row = visit.row("sleepy")
    expect(row).to_contain_text("wait")
    expect(row).to_contain_text("on paris")
    expect(visit.row("talker")).to_have_count(0)
    row.get_by_role("link", name="sleepy").click()
    expect(visit.row("flood/#")).to_contain_text("slow")
    visit.press("Kick sleepy")
    visit.confirm("Kick")
    visit.said("1 closed.")
    expect(row).to_have_count(0)
    deaf.close()
    talker.close()


def test_kicked_client_is_told_so_and_cancelling_does_nothing(visit: Visit, node: Node) -> None:
    client = Client(node, "grace")
    visit.open("connections?user=grace")
    visit.press("Kick grace")
    visit.confirm("Cancel")
    client.publish("still/here", 1)
    visit.press("Kick grace")
    visit.confirm("Kick")
    assert client.closed_with() == KICKED
    expect(visit.page.get_by_role("heading", name="Nobody is connected")).to_be_visible()


def test_revoked_client_stays_out_until_it_is_lifted(visit: Visit, node: Node) -> None:
    client = Client(node, "mallory", jti="stolen-1")
    visit.open("connections?user=mallory")
    visit.press("Revoke mallory")
    visit.confirm("Revoke")
    assert client.closed_with() == REVOKED
    visit.go("access")
    expect(visit.row("stolen-1")).to_contain_text("token")
    visit.press("Lift stolen-1")
    visit.confirm("Let in again")
    expect(visit.row("stolen-1")).to_have_count(0)
    Client(node, "mallory", jti="stolen-1").close()

    visit.page.get_by_label("Which", exact=True).fill("eve")
    visit.press("Revoke …")
    visit.confirm("Revoke")
    expect(visit.row("eve")).to_contain_text("user")


def test_durable_subscription_shows_lag_and_its_dead_letters_can_be_retried_and_dropped(
    visit: Visit, node: Node
) -> None:
    worker = Client(node, "worker")
    worker.subscribe("jobs/#", durable="mailer")
    for number in range(3):
        worker.publish("jobs/mail", {"n": number, "to": MARKUP})
    for _ in range(3):
        packet = worker.hear("delivery")
        place = {name: packet["message"][name] for name in ("log", "pos")}
        worker.ask("nack", "acked", sub=packet["sub"], attempt=1, reject=True, **place)
    worker.close()
    client = Client(node, "ada")
    for number in range(5):
        client.publish("jobs/more", number)
    visit.open("durable")
    row = visit.row("mailer")
    expect(row.locator('[data-label="Lag"]')).to_have_text("5")
    expect(row.locator('[data-label="Members"]')).to_have_text("nobody")
    expect(row.locator('[data-label="Dead letters"]')).to_have_text("3")
    row.get_by_role("link", name="mailer").click()
    letters = visit.page.locator("li.letter")
    expect(letters).to_have_count(3)
    expect(letters.first).to_contain_text("rejected")
    expect(letters.first).to_contain_text("onerror=")  # as text
    letters.first.get_by_role("button", name="Retry").click()
    visit.confirm("Retry")
    expect(letters).to_have_count(2)
    visit.press("Drop all")
    visit.confirm("Drop")
    visit.said("2 dropped.")
    expect(letters).to_have_count(0)
    client.close()


def test_s27_what_clients_say_and_are_called_is_text_everywhere(visit: Visit, node: Node) -> None:
    """Topics, payloads, keys, headers, user names: none of them becomes an element or runs."""
    client = Client(node, MARKUP[:64])
    visit.open("tail?filter=%23")
    expect(visit.page.locator(".count")).to_contain_text("connected")
    client.publish("xss/<b>bold</b>", {"html": MARKUP, "deep": [MARKUP]}, key="<i>k", headers={"h": "<u>v"})
    message = visit.page.locator(".messages li")
    expect(message).to_contain_text("xss/<b>bold</b>")
    message.get_by_role("button").click()
    expect(message.locator("pre")).to_contain_text('"html": "<img src=x onerror=')
    expect(message.locator(".open")).to_contain_text("header h <u>v")
    for view in ("topics", "connections"):
        visit.go(view)
        expect(visit.page.locator("#view")).to_contain_text("<b>bold" if view != "connections" else "<img")
    assert visit.page.locator("#view :is(img, script, b b, u, i)").count() == 0
    assert "owned" not in visit.page.title()
    client.close()


def test_tail_filters_pauses_and_keeps_a_bounded_number(visit: Visit, node: Node) -> None:
    client = Client(node, "ada")
    visit.open("tail?filter=busy/%23")
    count = visit.page.locator(".count")
    expect(count).to_contain_text("connected")
    for number in range(600):
        client.publish("busy/a", {"n": number})
    expect(count).to_contain_text("600 came")
    lines = visit.page.locator(".messages li")
    expect(lines).to_have_count(200)
    expect(lines.first).to_contain_text('{"n":599}')
    visit.page.get_by_label("Only with").fill('"n":123}')
    expect(lines).to_have_count(1)
    visit.page.get_by_label("Only with").fill('"n":42}')  # is not kept any more
    expect(visit.page.get_by_role("heading", name="Nothing of that kind")).to_be_visible()
    visit.page.get_by_label("Only with").fill("")
    visit.press("Pause")
    client.publish("busy/a", "unseen")
    expect(count).to_contain_text("1 not kept")
    expect(lines.first).to_contain_text('{"n":599}')
    client.close()


def test_tenant_that_is_chosen_bounds_what_is_shown(visit: Visit, node: Node) -> None:
    inside, outside = Client(node, "ada", "acme"), Client(node, "bob", "globex")
    inside.publish("orders/1", 1)
    outside.publish("orders/2", 2)
    visit.open("topics")
    expect(visit.row("orders/2")).to_contain_text("globex")
    visit.page.get_by_label("Tenant").select_option("acme")
    expect(visit.row("orders/1")).to_contain_text("acme")
    expect(visit.row("orders/2")).to_have_count(0)
    visit.go("tail?filter=orders/%23")
    expect(visit.page.locator(".count")).to_contain_text("connected")
    inside.publish("orders/3", "mine")
    expect(visit.page.locator(".messages li")).to_contain_text("orders/3")
    visit.page.get_by_label("Tenant").select_option("globex")
    expect(visit.page.get_by_role("heading", name="Listening")).to_be_visible()
    expect(visit.page.locator(".count")).to_contain_text("connected")
    outside.publish("orders/4", "theirs")
    expect(visit.page.locator(".messages li")).to_contain_text("orders/4")
    inside.close()
    outside.close()


def test_publish_form_publishes_and_traces(visit: Visit, node: Node) -> None:
    client = Client(node, "ada")
    client.subscribe("form/#")
    visit.open("publish")
    visit.page.get_by_label("Topic").fill("form/a")
    data = visit.page.get_by_role("textbox", name="Data", exact=True)
    data.fill("{no json}")
    visit.press("Publish")
    expect(visit.page.get_by_role("alert")).to_contain_text("This is no JSON")
    data.fill('{"hello": [1, "two"]}')
    visit.press("Add a header")
    visit.page.get_by_label("Name of header 1").fill("color")
    visit.page.get_by_label("Value of header 1").fill("blue")
    visit.page.get_by_label("Trace it").check()
    visit.press("Publish")
    heard = client.hear("message")
    assert (heard["data"], heard["headers"]) == ({"hello": [1, "two"]}, {"color": "blue"})
    expect(visit.page.get_by_role("heading", name="Published")).to_be_visible()
    expect(visit.page.get_by_role("region", name="Hops")).to_contain_text("sent")
    client.close()
    visit.page.get_by_label("Topic").fill("form/#")  # refused: what became of the one before is no answer to it
    visit.press("Publish")
    expect(visit.page.get_by_role("heading", name="Published")).to_have_count(0)
    expect(visit.page.locator(".notice.bad")).to_be_visible()
    assert "400" in visit.wrong.pop()  # the browser's own note


def test_settings_show_nodes_and_change_how_much_is_logged(visit: Visit, node: Node) -> None:
    visit.open("node")
    expect(visit.row("berlin")).to_contain_text("ready")
    expect(visit.row("paris")).to_contain_text("ready")
    visit.page.get_by_label("Log from").select_option("warning")
    expect(visit.row("paris")).to_contain_text("warning")
    visit.page.get_by_label("Log from").select_option("info")
    expect(visit.row("paris")).to_contain_text("info")
    visit.press("Reload settings …")
    visit.confirm("Reload")
    visit.said("paris: ")


def test_ticket_of_the_tail_is_no_secret_of_operators(node: Node) -> None:
    """S13: what the page hands to its WebSocket opens nothing else."""
    request = Request(
        f"http://127.0.0.1:{node.admin_port}/v1/console/token",
        data=b"{}",
        headers={"Authorization": f"Bearer {ADMIN_SECRET}", "Content-Type": "application/json"},
    )
    with urlopen(request) as answer:
        ticket = json.load(answer)["token"]
    for shown in (ticket, token("ada")):
        with pytest.raises(HTTPError) as refused:
            urlopen(
                Request(
                    f"http://127.0.0.1:{node.admin_port}/v1/figures", headers={"Authorization": f"Bearer {shown}"}
                )
            )
        assert refused.value.code == 401
        refused.value.close()
