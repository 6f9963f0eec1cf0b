"""What is to be reproduced: a data set, the models trained on it, and where files go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from paper.training import Trained, labelled, load, trained

#: The number of test images that the paper measured with: the first ones.
MEASURED = 1000


@dataclass(frozen=True)
class Plan:
    """One run of the reproduction.

    Attributes:
        dataset: ``"mnist"`` or ``"cifar10"``.
        data_root: The folder of the data sets, or ``None`` for images that need no files.
        artifacts: The folder of checkpoints and of what was measured for each model.
        out: The folder of what is published: figures, JSON and the page.
        bottleneck: The number of entries of a code.
        images: The number of images to train on, or ``None`` for all.
        measured: The number of test images to measure with: the first ones.
        epochs: The number of epochs to train each family.
        seeds: The seeds of the models of each family.
    """

    dataset: str
    data_root: Path | None
    artifacts: Path
    out: Path
    bottleneck: int
    images: int | None
    measured: int
    epochs: dict[str, int]
    seeds: dict[str, list[int]]

    def model(self, family: str, seed: int) -> Trained:
        """Returns one model, which is trained now unless it is ready."""
        return trained(
            self.dataset,
            family,
            self.bottleneck,
            seed=seed,
            epochs=self.epochs[family],
            images=self.images,
            artifacts=self.artifacts,
            data_root=self.data_root,
        )

    def models(self, family: str) -> Iterator[Trained]:
        """Yields the models of a family, one for each seed."""
        for seed in self.seeds[family]:
            yield self.model(family, seed)

    def test_images(self) -> Tensor:
        """Returns the images to measure with, (n, C, H, W), in [0, 1]."""
        return load(self.dataset, self.data_root, "test")[: self.measured] / 255

    def test_labels(self) -> Tensor:
        """Returns the labels of the images to measure with."""
        return labelled(self.dataset, self.data_root, "test")[1][: self.measured]

    def kept(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Computes what has a name, or reads what an earlier run with these artifacts computed."""
        path = self.artifacts / "measured" / f"{name}.json"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(compute(), indent=1) + "\n")
            partial.replace(path)
        found: dict[str, Any] = json.loads(path.read_text())
        return found
