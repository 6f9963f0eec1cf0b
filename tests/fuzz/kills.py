"""Kills a process at random moments while it writes, and looks at what is left.

    python -m tests.fuzz.kills 12 --out docs/benchmarks/kills.json

Each round starts a process that trains with a checkpoint and, without end, saves one kind of file
over the old one: a report, its page, its table, or the state of a probe. Once both files are
there, it is killed with SIGKILL after a random time, most often while it writes one of them, as
the unfinished files tell that it leaves. Every file must then be whole, the old one or the new
one, and from the checkpoint, training must go on to the same weights as without an interruption.
"""

import argparse
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

import infoprobe as ip
from infoprobe.models import Schedule, fit

SCHEDULE = Schedule(epochs=300, batch_size=8)
CHECKPOINT = "model.safetensors"


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 3, padding=1))


def train(path=None):
    images = torch.randint(256, (80, 1, 4, 4), generator=torch.Generator().manual_seed(0))
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


# How each kind of file is written, and how it is seen to be whole.
KINDS = {
    "report.json": (lambda path: probed().report().save(path), is_same_report),
    "report.html": (lambda path: probed().report().to_html(path), is_whole_page),
    "report.csv": (lambda path: probed().report().to_csv(path), is_whole_table),
    "state.pt": (save_state, is_same_state),
}


def write(folder, kind):
    """Writes one kind of file without end, and trains meanwhile."""
    save, _ = KINDS[kind]
    save(folder / kind)
    threading.Thread(target=train, args=(folder / CHECKPOINT,), daemon=True).start()
    while not (folder / CHECKPOINT).exists():
        time.sleep(0.01)
    print("ready", flush=True)
    while True:
        save(folder / kind)


def goes_on(checkpoint, expected):
    """Whether training ends with the expected weights if it goes on from a checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        shutil.copy(checkpoint, name)
        return all(map(torch.equal, train(Path(name) / CHECKPOINT), expected))


def epoch_of(checkpoint):
    """The number of complete epochs in a checkpoint."""
    with safe_open(checkpoint, "pt") as file:
        return json.loads(file.metadata()["infoprobe"])["position"]["epoch"]


def kill(rounds, seed=0):
    """What was left after each kill."""
    chosen, expected, found = random.Random(seed), train(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in itertools.islice(itertools.cycle(KINDS), rounds):
            command = [sys.executable, "-m", "tests.fuzz.kills", "--write", name, "--kind", kind]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                process.stdout.readline()  # both files are there
                seconds = chosen.uniform(0.0, 0.5)
                time.sleep(seconds)
                process.send_signal(signal.SIGKILL)
            there = [kind for kind in KINDS if (folder / kind).exists()]
            unfinished = sorted(folder.glob(".*.tmp"))
            found.append(
                {
                    "killed while it wrote": kind,
                    "seconds": round(seconds, 3),
                    "unfinished": [path.name.rsplit(".", 2)[0][1:] for path in unfinished],
                    "whole": [kind for kind in there if KINDS[kind][1](folder / kind)],
                    "damaged": [kind for kind in there if not KINDS[kind][1](folder / kind)],
                    "epochs in the checkpoint": epoch_of(folder / CHECKPOINT),
                    "goes on to the same weights": goes_on(folder / CHECKPOINT, expected),
                }
            )
            for path in unfinished:
                path.unlink()
    figures = {
        "damaged files": sum(len(one["damaged"]) for one in found),
        "kills amid the writing of a file": sum(bool(one["unfinished"]) for one in found),
        "kills amid the writing of a checkpoint": sum(
            CHECKPOINT in one["unfinished"] for one in found
        ),
        "goes on to the same weights": sum(one["goes on to the same weights"] for one in found),
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
