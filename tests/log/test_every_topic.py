"""The filter that matches every topic, the broker's own too: what a peer that was away reads (each engine)."""

from triode_broker.config import TopicRule
from triode_protocol.packets import Start

from tests.log.scribe import NO_RECENT, Open, Scribe

FEW = TopicRule(retention_messages=2, retention_seconds=100_000)


def test_empty_filter_reads_every_topic_in_order(open_log: Open) -> None:
    scribe = Scribe(open_log)
    written = [scribe.write(topic) for topic in ("a", "$dead/x", "a/b", "$sys/y", "a")]
    page = scribe.page("")
    assert (page.records, page.upto, page.loss) == (written, 5, 0)
    assert page.prevs == [0, 0, 0, 0, 1]


def test_empty_filter_goes_on_behind_a_page(open_log: Open) -> None:
    scribe = Scribe(open_log)
    written = [scribe.write(topic) for topic in ("a", "$dead/x", "b", "a")]
    assert scribe.read("", max_bytes=1) == written
    assert scribe.read("", max_records=3) == written
    assert scribe.page("", after=4).upto == 4


def test_empty_filter_knows_the_loss_of_any_topic(open_log: Open) -> None:
    scribe = Scribe(open_log, NO_RECENT)
    for topic in ("a", "a", "a", "$dead/x", "b"):
        scribe.write(topic, rule=FEW)
    scribe.pass_time(1)
    page = scribe.page("")
    assert [record.pos for record in page.records] == [2, 3, 4, 5]
    assert page.loss == scribe.seek("a", Start()).loss > 0
    assert scribe.page("", after=1).loss == 0
