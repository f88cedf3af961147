"""Settings for all tests."""

from hypothesis import HealthCheck, settings

# no test judges how long something takes
settings.register_profile("rackwright", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rackwright")
