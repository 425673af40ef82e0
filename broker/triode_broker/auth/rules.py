"""Rules: `[[permissions]]` and what a credential grants, made into the rights of one identity.

Knows rows and checked bearers; what a placeholder means is `core.placeholders`' business. The surprising decision:
a rule that breaks the grammar ends the start, here as in the command line's check. It would deny nothing.
"""

from collections.abc import Iterable, Sequence

from triode_broker.auth.grants import Filters
from triode_broker.auth.known import Known, NotAccepted
from triode_broker.config import Permission
from triode_broker.core.identity import Identity
from triode_broker.core.placeholders import check_rule, expand_allow, expand_deny, values
from triode_broker.core.rights import ACTIONS, BadRules, RightsTable

#: Role and method of those who have shown no credential, where they may come in.
ANONYMOUS = "anonymous"


def check_rules(rows: Sequence[Permission]) -> Iterable[tuple[int, str, str]]:
    """What is wrong with rules: number of the row from 1, its field, and why."""
    for number, row in enumerate(rows, 1):
        for field in (*ACTIONS, *(f"deny_{action}" for action in ACTIONS)):
            for rule in getattr(row, field):
                try:
                    check_rule(rule)
                except BadRules as error:
                    yield number, field, str(error)


class Rules:
    """The rows, checked. Raises BadRules where one is wrong."""

    def __init__(self, rows: Sequence[Permission], before: "Rules | None" = None) -> None:
        """`before`: rules that were in force; who has the same rights by these keeps them."""
        for number, field, wrong in check_rules(rows):
            raise BadRules(f"permissions #{number} {field}: {wrong}")
        self._rows = tuple(rows)
        self._table: RightsTable = before._table if before is not None else RightsTable()

    def identity(self, known: Known) -> Identity:
        """Who a checked bearer is, with all that the rows and the credential say. Raises NotAccepted."""
        rows = [row for row in self._rows if _concerns(row, known)]
        stand_for = values(known.user, known.tenant, known.values)
        grants = known.grants
        allow: dict[str, Filters] = {}
        deny: dict[str, Filters] = {}
        for action in ACTIONS:
            allowed = [rule for row in rows for rule in getattr(row, action)]
            denied = [rule for row in rows for rule in getattr(row, f"deny_{action}")]
            allow[action] = expand_allow(allowed, stand_for) + grants.allow.get(action, ())
            deny[action] = expand_deny(denied, stand_for) + grants.deny.get(action, ())
        try:
            rights = self._table.of(allow, deny)  # type: ignore[arg-type]  # its keys are ACTIONS
        except BadRules as error:
            raise NotAccepted(f"its rules cannot hold: {error}") from None
        return Identity(
            user=known.user,
            tenant=known.tenant,
            rights=rights,
            expires_ms=known.expires_ms,
            issued_ms=known.issued_ms,
            token_id=known.token_id,
            key=known.key,
            method=known.method,
            roles=known.roles,
            limits=known.limits,
            source=known,
        )


def _concerns(row: Permission, known: Known) -> bool:
    """Whether a row holds for a bearer: "" is everybody who has shown a credential."""
    is_role = row.role in known.roles or (row.role == "" and known.method != ANONYMOUS)
    return is_role and row.tenant in ("", known.tenant)
