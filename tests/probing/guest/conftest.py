import pytest

from tests.probing.guest.helpers import quiet


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    assert quiet()
