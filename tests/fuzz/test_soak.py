"""Short versions of the long runs: many batches, and kills while files are written."""

import sys

import pytest

from tests.fuzz.kills import kill
from tests.fuzz.soak import soak


@pytest.mark.filterwarnings("ignore:some probed layers")
def test_many_batches():
    found = soak(120)
    assert found["counts are exact"]
    warm, *_, last = (look["objects"] for look in found["looks"])
    assert last <= warm + 50


@pytest.mark.filterwarnings("ignore:some probed layers")
def test_many_windows():
    found = soak(120, every=10)
    (warm, _, _, last), rows = (look["objects"] for look in found["looks"]), found["rows"]
    assert rows % 12 == 0  # twelve windows
    assert last <= warm + 3 * rows + 50  # rows and their findings, and what else is running


@pytest.mark.skipif(sys.platform == "win32", reason="this system does not kill like this")
def test_two_kills():
    found = kill(2)
    assert [len(a["files"]) for a in found["rounds"]] == [1, 2]
    assert found["kills with a checkpoint"] == 2
    assert found["damaged files"] == 0
