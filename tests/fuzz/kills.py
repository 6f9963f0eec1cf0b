"""Kills a process at random moments while it writes, and looks at what is left.

    python -m tests.fuzz.kills 12 --out docs/benchmarks/kills.json

Each round starts a process that writes one kind of file again and again over the old one: the
checkpoint of a training, a report, its page, its table, or the state of a probe; every second
time it is the checkpoint. Once the process has written the file, it is killed with SIGKILL as
soon as an unfinished file is seen after a random time. Every file must then be whole, the old one
or the new one, and from the checkpoint, training must go on to the same weights as without an
interruption.
"""

import argparse
import functools
import itertools
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

import infoprobe as ip
from infoprobe.models import Schedule, fit

SCHEDULE = Schedule(epochs=60, batch_size=8)
CHECKPOINT = "model.safetensors"
# Within how many seconds an unfinished file is seen, unless the process is slow to write one.
_LATEST = 20.0


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 3, padding=1))


def train(path=None):
    images = torch.randint(256, (16, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    model = build()
    fit(model, images.to(torch.uint8), SCHEDULE, checkpoint=path, progress=False)
    return [parameter.detach() for parameter in model.parameters()]


def probed():
    with ip.probe(model := build()) as probe:
        model(torch.randn(50, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    return probe


def save_state(path):
    """Saves the state of a probe as a user would, in the place of the old file at once."""
    torch.save(probed().state_dict(), path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def is_same_state(path):
    probe = ip.probe(build())
    probe.load_state_dict(torch.load(path))
    same = probe.report().rows == probed().report().rows
    probe.remove()
    return same


def is_same_report(path):
    return ip.Report.load(path).rows == probed().report().rows


def is_whole_page(path):
    return path.read_text().rstrip().endswith("</html>")


def is_whole_table(path):
    with tempfile.TemporaryDirectory() as name:
        probed().report().to_csv(whole := Path(name) / "whole.csv")
        return path.read_bytes() == whole.read_bytes()


def goes_on(path):
    """Whether training ends with the same weights if it goes on from a copy of a checkpoint."""
    return goes_on_from(path.read_bytes())


@functools.cache  # most kills leave the checkpoint as it was
def goes_on_from(content):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / CHECKPOINT
        path.write_bytes(content)
        return all(map(torch.equal, train(path), uninterrupted()))


@functools.cache
def uninterrupted():
    return train()


# How each kind of file is written, and how it is seen to be whole.
KINDS = {
    CHECKPOINT: (train, goes_on),
    "report.json": (lambda path: probed().report().save(path), is_same_report),
    "report.html": (lambda path: probed().report().to_html(path), is_whole_page),
    "report.csv": (lambda path: probed().report().to_csv(path), is_whole_table),
    "state.pt": (save_state, is_same_state),
}


def write(folder, kind):
    """Writes one kind of file again and again."""
    save, _ = KINDS[kind]
    print("ready", flush=True)
    while True:
        save(folder / kind)


def epoch_of(checkpoint):
    """The number of complete epochs in a checkpoint."""
    with safe_open(checkpoint, "pt") as file:
        return json.loads(file.metadata()["infoprobe"])["position"]["epoch"]


def file_at(path):
    """What tells a file from the one that takes its place; ``None`` if there is none."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def kill_while_it_writes(folder, kind, seconds):
    """Kills a process that writes this kind of file: what it leaves unfinished."""
    before = file_at(folder / kind)
    command = [sys.executable, "-m", "tests.fuzz.kills", "--write", str(folder), "--kind", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        latest = time.monotonic() + _LATEST  # a complete training writes no more
        while file_at(folder / kind) == before and process.poll() is None:
            if before is not None and time.monotonic() > latest:
                break
            time.sleep(0.001)
        time.sleep(seconds)
        latest = time.monotonic() + _LATEST
        while not any(folder.glob(".*.tmp")) and time.monotonic() < latest:
            pass
        process.send_signal(signal.SIGKILL)
    unfinished = list(folder.glob(".*.tmp"))
    for path in unfinished:
        path.unlink()
    return len(unfinished)


def kill(rounds, seed=0):
    """What was left after each kill."""
    chosen, found = random.Random(seed), []
    others = itertools.cycle(kind for kind in KINDS if kind != CHECKPOINT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(rounds):
            kind, seconds = next(others) if i % 2 else CHECKPOINT, chosen.uniform(0.0, 0.3)
            unfinished = kill_while_it_writes(folder, kind, seconds)
            there = [kind for kind in KINDS if (folder / kind).exists()]
            damaged = [kind for kind in there if not KINDS[kind][1](folder / kind)]
            found.append(
                {
                    "killed while it wrote": kind,
                    "seconds": round(seconds, 3),
                    "unfinished files": unfinished,
                    "files": there,
                    "damaged": damaged,
                    "epochs in the checkpoint": epoch_of(folder / CHECKPOINT),
                }
            )
    figures = {
        "kills amid the writing of a file": sum(one["unfinished files"] > 0 for one in found),
        "kills with a checkpoint": sum(CHECKPOINT in one["files"] for one in found),
        "damaged files": sum(len(one["damaged"]) for one in found),
    }
    return {"kills": rounds, "seed": seed, **figures, "rounds": found}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kills", type=int, nargs="?", default=12)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.write:
        write(options.write, options.kind)
    found = {
        "command": f"python -m tests.fuzz.kills {options.kills}",
        "version": ip.__version__,
        **kill(options.kills),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
