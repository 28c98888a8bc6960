"""Property tests: whatever a file or a text holds, nothing but BTCChatError escapes.

The examples are the same in every run. `BTCCHAT_FUZZ=20 pytest tests/fuzz` draws new ones, 20 times as many.
"""

from hypothesis import HealthCheck, settings

from tests.fuzz.values import TIMES

settings.register_profile("btcchat", deadline=None, derandomize=TIMES == 1, database=None, max_examples=100 * TIMES)
settings.register_profile("btcchat", settings.get_profile("btcchat"), suppress_health_check=list(HealthCheck))
settings.load_profile("btcchat")
