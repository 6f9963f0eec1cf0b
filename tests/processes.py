"""Processes of one group, which run the file of a test as their program."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch

import infoprobe


def run_in_processes(file, world, folder, seconds=120):
    """Runs a file in several processes, ``python FILE rank world folder``.

    Arguments:
        file: The file, which calls :func:`in_group`.
        world: The number of processes.
        folder: A folder that all of them know.
        seconds: How long to wait for them.

    Returns:
        The exit status of each, and what they have said.
    """
    if not torch.distributed.is_available():
        pytest.skip("needs torch.distributed")
    roots = [Path(infoprobe.__file__).parents[1], Path(__file__).parents[1]]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([*map(str, roots), os.environ.get("PYTHONPATH", "")]),
    }
    workers = [
        subprocess.Popen(
            [sys.executable, file, str(rank), str(world), str(folder)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        said = "\n".join(worker.communicate(timeout=seconds)[0] for worker in workers)
    finally:
        for worker in workers:
            worker.kill()
    return [worker.returncode for worker in workers], said


def in_group(work, seconds=None):
    """Calls ``work(rank, world, folder)`` in this process, as one of the group.

    Arguments:
        work: What to do.
        seconds: How long the processes wait for each other, or ``None`` for torch's own time.
    """
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=world,
        timeout=None if seconds is None else timedelta(seconds=seconds),
    )
    work(rank, world, folder)
    torch.distributed.destroy_process_group()
