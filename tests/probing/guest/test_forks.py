"""A process may fork while its threads run a probed model."""

import os
import signal
import threading
import time
import warnings

import pytest
import torch
from torch import nn

import infoprobe as ip
from infoprobe.estimators.histogram import compiled

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
LIMIT = 180  # seconds after which a child that hangs is killed


def in_a_child(call):
    """The status with which a forked process ends that calls this."""
    with warnings.catch_warnings():
        # Python warns of any fork beside threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(LIMIT)
        try:
            # As DataLoader's workers do: torch's own threads are not in the child, and work that
            # it shares among several would wait for them for ever.
            torch.set_num_threads(1)
            call()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("measures", [None, ip.Entropy(ip.KNN(), project=2)])
def test_children_run_the_probed_model(measures):
    model, x = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), torch.randn(16, 4)
    # Torch locks a weight that requires a gradient while a pass uses it. A child that was forked
    # meanwhile waits for ever for that lock, with or without a probe.
    model.requires_grad_(False)
    probe = ip.probe(model, measures=measures)
    model(x)
    probe.report()  # imports what it needs
    stop = threading.Event()

    def train():
        while not stop.is_set():
            model(x)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for _ in range(12):
            status = in_a_child(lambda: (model(x), probe.report()))
            assert status != signal.SIGALRM, f"a child hung for {LIMIT} s and was killed"
            assert status == 0
    finally:
        stop.set()
        thread.join()
        probe.remove()


def test_a_fork_waits_until_a_kernel_is_compiled():
    began, done = threading.Event(), []

    def kernel():  # numba and Python's import hold locks as long as such a call takes
        began.set()
        time.sleep(0.3)
        done.append(True)

    def require_done():
        assert done

    thread = threading.Thread(target=compiled.run, args=(kernel, ()))
    thread.start()
    began.wait()
    assert in_a_child(require_done) == 0
    thread.join()
