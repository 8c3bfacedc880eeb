"""Tests of moxtw, run by trial."""

import signal

from hypothesis import HealthCheck, settings

# A machine that is busy with something else must not fail a test.
settings.register_profile("moxtw", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("moxtw")

# Shells start what runs in the background with SIGINT ignored, and servers inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
