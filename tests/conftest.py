"""Settings of all property tests."""

from hypothesis import HealthCheck, settings

# A slow machine is no fault of what is tested. pytest's timeout ends a test that hangs.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
