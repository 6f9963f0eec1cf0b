"""A process may fork while its threads run a probed model."""

import os
import signal
import threading
import warnings

import pytest
import torch
from torch import nn

import infoprobe as ip

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
LIMIT = 180  # seconds after which a child that hangs is killed


@pytest.mark.parametrize("measures", [None, ip.Entropy(ip.KNN(), project=2)])
def test_children_run_the_probed_model(measures):
    model, x = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), torch.randn(16, 4)
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
            with warnings.catch_warnings():
                # Python warns of any fork beside threads.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                signal.alarm(LIMIT)
                try:
                    # As DataLoader's workers do: torch's own threads are not in the child, and
                    # work that it shares among several would wait for them for ever.
                    torch.set_num_threads(1)
                    model(x)
                    probe.report()
                    os._exit(0)
                finally:
                    os._exit(1)
            status = os.waitpid(child, 0)[1]
            assert status != signal.SIGALRM, f"a child hung for {LIMIT} s and was killed"
            assert status == 0
    finally:
        stop.set()
        thread.join()
        probe.remove()
