"""Webhooks: events of `$events/…` sent to endpoints of operators, signed, at least once (docs/webhooks.md)."""
