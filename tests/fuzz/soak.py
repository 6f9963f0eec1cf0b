"""A probe with all measures over many batches: memory stays flat, and every value is counted.

python -m tests.fuzz.soak 10000 --out docs/benchmarks/soak.json
"""

import argparse
import gc
import json
import resource
from pathlib import Path

import numpy as np
import torch
from torch import nn

import infoprobe as ip

BINS = 64
FIXED = ip.Histogram(BINS, range=(-8.0, 8.0), outside="clip")


def measures():
    return [
        ip.Entropy(),
        ip.Divergence(reference="previous"),
        ip.Divergence(reference="input"),
        ip.Entropy(FIXED),
        ip.Entropy(ip.KNN(), samples=200),
        ip.Entropy(ip.Gaussian(), samples=200, project=2),
        ip.MutualInformation(ip.KNN(), samples=200),
        ip.MutualInformation(ip.KNN(), reference="target", samples=200),
        ip.EntropyChange(),
        ip.Rate(),
    ]


def resident():
    """The pages that this process has in memory, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def soak(batches, size=8, every=None, looks=4):
    """What a probe weighs at some looks over the batches, and whether its counts are exact.

    Arguments:
        batches: The number of batches.
        size: Samples in a batch; some batches are empty, or have one sample.
        every: The steps from one window to the next, if the probe tracks.
        looks: How often memory is looked at; the first look is after the caches are warm.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), nn.Tanh())
    generator = torch.Generator().manual_seed(1)
    edges = np.linspace(-8.0, 8.0, BINS + 1)
    counted, seen, found = np.zeros(BINS, np.int64), 0, []
    looked_at = {max(1, batches * i // looks) for i in range(1, looks + 1)}
    with ip.probe(model, measures=measures()) as probe:
        if every:
            probe.track(every=every, passes=2)
        for batch in range(1, batches + 1):
            n = size if batch % 50 else 1
            x = torch.randn(n, 6, generator=generator)
            probe.target(torch.arange(n) % 3)
            y = model(x)
            counted += np.histogram(y.detach().double().numpy().clip(-8, 8), edges)[0]
            seen += n
            if batch in looked_at:
                gc.collect()
                found.append((batch, len(gc.get_objects()), resident()))
    rows = probe.report().rows
    exact = None
    if not every:
        counts = probe.report().select(layer="3", measure="entropy").rows
        share = counted[counted > 0] / counted.sum()
        value = counts[1]["value"]
        assert counts[1]["estimator"].startswith("Histogram(bins=64"), counts[1]["estimator"]
        exact = (
            counts[1]["n"] == seen and abs(value + float((share * np.log(share)).sum())) < 1e-12
        )
    return {
        "batches": batches,
        "track every": every,
        "samples": seen,
        "rows": len(rows),
        "counts are exact": exact,
        "looks": [
            {"batch": batch, "objects": objects, "resident MB": round(memory / 2**20, 1)}
            for batch, objects, memory in found
        ],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("batches", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "command": f"python -m tests.fuzz.soak {options.batches}",
        "version": ip.__version__,
        "torch": torch.__version__,
        "one report": soak(options.batches),
        "windows": soak(options.batches, every=100),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
