import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def own_cache(settings) -> None:
    """Nobody tried anything yet; the tests' clock counts, also where the cache would be a Redis that others share."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "accounts"}}
    cache.clear()
