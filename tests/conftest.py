"""Settings for all tests."""

import os

from hypothesis import HealthCheck, settings

# no test judges how long something takes
settings.register_profile("rackwright", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rackwright")
# each worker of pytest-xdist has a core: the threads of PyTorch that wait for another thread's core keep it busy
os.environ.setdefault("OMP_NUM_THREADS", "1")
