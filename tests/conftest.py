"""What holds for every test: hypothesis judges results, never the clock of a busy machine; Ctrl-C can be tested.

A shell that starts a run in its background lets it ignore SIGINT, and what it starts would inherit that.
"""

import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.gate"]

settings.register_profile("triode", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("triode")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
