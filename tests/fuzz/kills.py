"""Kills a process at random moments while it writes, and looks at what is left.

    python -m tests.fuzz.kills 12 --out docs/benchmarks/kills.json

Each round starts a process that trains with a checkpoint and, without end, saves reports, pages
and tables over the old ones. It is killed with SIGKILL after a random time. Every file must then
be whole, the old one or the new one, and training must go on from the checkpoint to the same
weights as without an interruption.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from torch import nn

import infoprobe as ip
from infoprobe.models import Schedule, fit

SCHEDULE = Schedule(epochs=40, batch_size=8)


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 3, padding=1))


def train(path=None):
    images = torch.randint(256, (80, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    model = build()
    fit(model, images.to(torch.uint8), SCHEDULE, checkpoint=path, progress=False)
    return [parameter.detach() for parameter in model.parameters()]


def report():
    with ip.probe(model := build()) as probe:
        model(torch.randn(50, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    return probe.report()


def write(folder):
    """Writes all kinds of files without end."""
    made = report()
    print("ready", flush=True)
    threading.Thread(target=train, args=(folder / "model.safetensors",), daemon=True).start()
    while True:
        made.save(folder / "report.json")
        made.to_html(folder / "report.html")
        made.to_csv(folder / "report.csv")


def is_whole(folder):
    """Whether every file that is there can be read to its end, and how many are there."""
    there = 0
    if (folder / "report.json").exists():
        there += 1
        ip.Report.load(folder / "report.json")
    if (folder / "report.html").exists():
        there += 1
        assert (folder / "report.html").read_text().rstrip().endswith("</html>")
    if (folder / "report.csv").exists():
        there += 1
        assert (folder / "report.csv").read_text().endswith("\n")
    return there


def kill(rounds, seed=0):
    """What was left after each kill."""
    chosen, expected, found = random.Random(seed), train(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(rounds):
            command = [sys.executable, "-m", "tests.fuzz.kills", "--write", name]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                process.stdout.readline()  # it has begun
                seconds = chosen.uniform(0.01, 1.0)
                time.sleep(seconds)
                process.send_signal(signal.SIGKILL)
            there = is_whole(folder)
            path = folder / "model.safetensors"
            found.append(
                {"seconds": round(seconds, 3), "files": there, "checkpoint": path.exists()}
            )
        resumed = train(folder / "model.safetensors")
    same = all(map(torch.equal, resumed, expected))
    return {"kills": rounds, "seed": seed, "resumed to the same weights": same, "rounds": found}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kills", type=int, nargs="?", default=12)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.write:
        write(options.write)
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
