"""What holds for all tests: no test may fail because the machine was slow, so hypothesis has no deadline.

GWFAST_EXAMPLES raises the number of examples for a deeper search.
"""
import os

from hypothesis import HealthCheck, settings

settings.register_profile("gwfast", deadline=None, max_examples=int(os.environ.get("GWFAST_EXAMPLES", "100")),
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gwfast")
