"""What holds for every test: hypothesis judges results, never the clock of a busy machine."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.gate"]

settings.register_profile("triode", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("triode")
