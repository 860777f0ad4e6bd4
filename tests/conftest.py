"""What holds for all tests that need no container."""

import signal

from hypothesis import HealthCheck, settings

# a shell's background job has them ignored, and so would every process that a test starts
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# a busy machine is slow: no failure, whatever Hypothesis thinks of it
settings.register_profile("anywhere", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anywhere")
