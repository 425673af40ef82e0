"""Judging: what becomes of an open subscription when the rights of its client change (G10, SPEC 11.5).

Knows one subscription at a time. The surprising decision: one whose topics are the same as before is not told
anything, whatever else has changed in the rules: most tokens are renewed by equal ones.
"""

from triode_protocol.codec import Refused, encode
from triode_protocol.packets import Unsubscribed

from triode_broker.core.door import allowing, check_filter
from triode_broker.core.errors import answer_to
from triode_broker.core.identity import Identity
from triode_broker.core.rights import Action, Rights
from triode_broker.core.router import Router
from triode_broker.core.subscription import Subscription
from triode_broker.core.tenants import outside


def judge(sub: Subscription, before: Rights, identity: Identity, router: Router) -> Refused | None:
    """Have it go on by the new rights; or why it has to end, which is the caller's to do."""
    rights, filter = identity.rights, outside(sub.filter)
    try:
        check_filter(rights, filter, is_past=sub.is_past, is_watching=sub.attendance is not None)
    except Refused as refused:
        return refused
    allows, allows_past = allowing(identity, filter, is_past=sub.is_past)
    actions: tuple[Action, ...] = ("subscribe", "history") if sub.is_past else ("subscribe",)
    if all(before.is_same(rights, action, filter) for action in actions):
        sub.allows, sub.allows_past = allows, allows_past
    else:
        router.permit(sub, allows, allows_past)
    return None


def ended(sub: Subscription, refused: Refused) -> bytes:
    """What its client is told of one that has to end (SPEC 11.5.1)."""
    if sub.is_answered:
        return encode(Unsubscribed(sub.number, 0, refused.name, refused.message, refused.retry))
    refused.sub = sub.number
    return answer_to(refused, sub.id)
