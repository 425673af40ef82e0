"""What becomes of the messages of a topic: `[[topics]]`."""

from typing import Literal

from msgspec import Struct
from msgspec.structs import force_setattr

from triode_broker.config.numbers import NotNegative, Retention

#: What a rule retains where it does not say, by storage class.
RETENTION = {
    "memory": {"retention_messages": 1_000, "retention_seconds": 300, "retention_bytes": 1_048_576},
    "disk": {"retention_messages": 1_000_000, "retention_seconds": 604_800, "retention_bytes": 1_073_741_824},
}
#: Stands for "what RETENTION says".
BY_STORAGE = -1


class TopicRule(Struct, frozen=True, forbid_unknown_fields=True):
    """The policy of the topics that `filter` matches; the first matching rule holds."""

    filter: str = "#"  # the topics it is for
    storage: Literal["memory", "disk"] = "memory"  # disk: acknowledged and delivered once flushed; needs `data`
    compact: bool = False  # only the newest message of each key is retained, whatever its age
    retention_messages: Retention = BY_STORAGE  # of each topic; of a compacted one: keys; 0 = none
    retention_seconds: Retention = BY_STORAGE  # 0 = not at all
    retention_bytes: Retention = BY_STORAGE  # of each topic; 0 = none
    tombstone_seconds: NotNegative = 86_400  # a deleted key's mark on a compacted topic
    ttl_seconds: NotNegative = 0  # 0 = messages do not expire before retention ends
    max_payload_bytes: NotNegative = 0  # of `data` or `b64`; 0 = what max_packet_bytes allows
    dedupe_seconds: NotNegative = 300  # a `message_id` is recognised for so long; 0 = not at all

    def __post_init__(self) -> None:
        for name, value in RETENTION[self.storage].items():
            if getattr(self, name) == BY_STORAGE:
                force_setattr(self, name, value)


#: Of `$dead/<name>`, where no rule says otherwise. A dead letter's key is the place of the message in its source,
#: `log.pos`: one letter for one message, and a tombstone takes it away again (`triode dead drop`, `retry`).
DEAD_LETTER_RULE = TopicRule(
    filter="$dead/#",
    storage="disk",
    compact=True,
    retention_messages=100_000,
    retention_bytes=268_435_456,
    dedupe_seconds=0,
)
#: Where the node has no disk.
DEAD_LETTER_RULE_IN_MEMORY = TopicRule(filter="$dead/#", compact=True, retention_seconds=604_800, dedupe_seconds=0)

#: Of `$events/…` (docs/webhooks.md), where no rule says otherwise. What is older is lost to a webhook that is so
#: far behind, and it is told so.
EVENTS_RULE = TopicRule(
    filter="$events/#",
    storage="disk",
    retention_messages=100_000,
    retention_seconds=86_400,
    retention_bytes=67_108_864,
)
#: Where the node has no disk.
EVENTS_RULE_IN_MEMORY = TopicRule(
    filter="$events/#", retention_messages=10_000, retention_seconds=3_600, retention_bytes=8_388_608
)
