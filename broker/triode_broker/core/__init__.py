"""The core: sessions, subscriptions, routing. Synchronous and pure: no trio, no sockets, no files, no clock.

Time arrives as `now_ms` (wall clock), bytes leave through an `Outbox`. Everything here runs to its end
when called; nothing waits.
"""
