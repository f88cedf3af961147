"""Settings for all tests."""

from hypothesis import settings

settings.register_profile("rackwright", deadline=None)  # no test judges how long something takes
settings.load_profile("rackwright")
