"""The usual normalizing flow for comparison: affine couplings of FrEIA."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import FrEIA.framework as ff
import FrEIA.modules as fm
import torch
from torch import Tensor, nn

from infoprobe.estimators.transport.transport import Transport


def subnet(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 128), nn.SiLU(), nn.Dropout(0.2), nn.Linear(128, outputs)
    )


@dataclass(frozen=True)
class Couplings(Transport):
    """Transport by eight affine couplings with random permutations, trained by Adam."""

    def fit_map(self, x: Tensor, stop: Tensor, seed: int) -> nn.Module:
        """The couplings of the best weights for the stopping samples."""
        torch.manual_seed(seed)
        mean, deviation = x.mean(0), x.std(0)
        inn = ff.SequenceINN(x.shape[1])
        inn.append(fm.FixedLinearTransform, M=torch.diag(1 / deviation), b=-mean / deviation)
        for _ in range(8):
            inn.append(fm.AllInOneBlock, subnet_constructor=subnet)

        def loss(some: Tensor) -> Tensor:
            z, log_det = inn(some)
            value: Tensor = (z.square().sum(1) / 2 - log_det).mean()
            return value

        steps, best, weights = 1500, math.inf, inn.state_dict()
        optimizer = torch.optim.Adam(inn.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            inn.train()
            optimizer.zero_grad()
            with torch.enable_grad():
                objective = loss(x[torch.randint(len(x), (256,))])
            torch.autograd.backward(objective)
            nn.utils.clip_grad_norm_(inn.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            if step % 25 == 24:
                inn.eval()
                current = float(loss(stop))
                if current < best:
                    best, weights = current, copy.deepcopy(inn.state_dict())
        inn.load_state_dict(weights)
        flow: nn.Module = inn.double().eval()
        return flow
