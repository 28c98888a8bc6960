"""Property tests: whatever a file or a text holds, nothing but BTCChatError escapes.

The examples are the same in every run; `pytest tests/fuzz --hypothesis-profile search` draws new ones, and more.
"""

from hypothesis import HealthCheck, settings

PLAIN = {"deadline": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("same", derandomize=True, database=None, **PLAIN)
settings.register_profile("search", max_examples=5000, **PLAIN)
settings.load_profile("same")
