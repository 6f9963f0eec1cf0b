"""What `probe.sync()` costs a process, and what is sent, with 2, 4 and 8 gloo processes.

    OMP_NUM_THREADS=1 python benchmarks/sync.py [number of processes ...]

Writes docs/benchmarks/sync.json. Each process has measured 60 layers, with the three default
measures (histograms), with samples, with covariances of 64 values, or with averages over
prompts. The bytes are those of the
tensors that a process gives to `all_reduce`; the seconds are CPU time of the slowest process, so
that processes which share a core are not counted as slow. Merging the states of all processes, as
sync() did before, stands beside it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

import infoprobe as ip
from infoprobe.probing.processes.group import Group
from infoprobe.probing.record import Record

RESULTS = Path(__file__).parents[1] / "docs" / "benchmarks" / "sync.json"
WORLDS = 1, 2, 4, 8
LAYERS = 60
# The measures, and the shape of a batch.
CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "counts": (None, (256, 32)),
    "samples": ([ip.Entropy(ip.Gaussian(), samples=512)], (256, 32)),
    "second moments": ([ip.Spectrum()], (256, 64)),
    "averages": ([ip.TokenEntropy(), ip.Curvature()], (32, 8, 32)),
}


def told(group: Group) -> dict[str, int]:
    """Counts the bytes that a group is told, from now on."""
    found = {"bytes": 0, "exchanges": 0}
    reduced = group._reduced

    def counted(x: Tensor, op: Any) -> Tensor:
        found["bytes"] += x.nbytes
        found["exchanges"] += 1
        return reduced(x, op)

    group._reduced = counted  # type: ignore[method-assign]
    return found


def state_bytes(state: Any) -> int:
    """How many bytes the tensors of a state take."""
    if isinstance(state, Tensor):
        return state.nbytes
    if isinstance(state, dict):
        return sum(map(state_bytes, state.values()))
    return sum(map(state_bytes, state)) if isinstance(state, list) else 0


def work(rank: int, world: int, folder: str) -> None:
    """Measures in one process, and leaves the figures in a file."""
    from infoprobe.probing.processes.synchronising import synchronised

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world
    )
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Tanh() for _ in range(LAYERS)))
    found: dict[str, Any] = {}
    for name, (measures, shape) in CASES.items():
        generator = torch.Generator().manual_seed(rank)
        with ip.probe(model, measures=measures) as probe:
            for _ in range(3):
                model(torch.randn(shape, generator=generator))
        own = probe._recorder.record
        group = Group()
        counted = told(group)
        started, clock = time.process_time(), time.perf_counter()
        together = synchronised(own, group)
        seconds, waited = time.process_time() - started, time.perf_counter() - clock
        started = time.process_time()
        together.now()
        found[name] = {
            **counted,
            "cpu seconds": seconds,
            "wall seconds": waited,
            "cpu seconds of each later report": time.process_time() - started,
            "bytes of the own state": state_bytes(own.state_dict()),
        }
        # As it was done before: every state everywhere, and all of them merged in each report.
        torch.distributed.barrier()
        started = time.process_time()
        states: list[Any] = [None] * world
        torch.distributed.all_gather_object(states, own.state_dict())
        records = [Record.from_state_dict(state, own.measures) for state in states]
        gathered = time.process_time() - started
        started = time.process_time()
        merged = Record(own.measures, own.seed)
        for record in records:
            merged.merge(record)
        found[name] |= {
            "before: cpu seconds": gathered,
            "before: bytes received": world * state_bytes(own.state_dict()),
            "before: cpu seconds of each report": time.process_time() - started,
        }
        assert _totals(merged) == _totals(together.whole)
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def _totals(record: Record) -> list[int]:
    return [kept.n for at_call in record.calls.values() for kept in at_call.values()]


def main() -> None:
    """Runs all numbers of processes, and writes the table."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= {"layers": LAYERS, "torch": torch.__version__}
    for world in [int(number) for number in sys.argv[1:]] or WORLDS:
        with tempfile.TemporaryDirectory() as folder:
            spawn(work, (world, folder), nprocs=world)  # type: ignore[no-untyped-call]
            ranks = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
        results[str(world)] = {
            name: {key: max(rank[name][key] for rank in ranks) for key in ranks[0][name]}
            for name in CASES
        }
        print(world, json.dumps(results[str(world)], indent=1), flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
