"""The processes of ``torch.distributed``: how they reduce, and what happens if one is gone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


class Group:
    """A group of processes, of which this one is a member.

    Attributes:
        rank: The number of this process in the group.
        world: The number of processes.
        device: Where the group exchanges tensors.
    """

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        self._group = group
        self.rank: int = distributed.get_rank(group)
        self.world: int = distributed.get_world_size(group)
        if self.rank < 0:
            raise RuntimeError(
                "sync: expected a group that this process belongs to. Pass the group of the "
                "processes whose data are to be added up, in each of them."
            )
        self.device: torch.device = _device(group)

    def total(self, x: Tensor) -> Tensor:
        """The sum of every process's tensor, in place of this one's."""
        return self._reduced(x, distributed.ReduceOp.SUM)

    def most(self, x: Tensor) -> Tensor:
        """The largest of every process's numbers, in place of this one's."""
        return self._reduced(x, distributed.ReduceOp.MAX)

    def everyone(self, thing: Any) -> list[Any]:
        """Every process's object."""
        things: list[Any] = [None] * self.world
        with self._answering():
            distributed.all_gather_object(things, thing, group=self._group)
        return things

    def joined(self, thing: T, join: Callable[[T, T], T]) -> T:
        """What all processes' objects become together, joined in the order of the processes.

        Neighbours are joined, then neighbouring pairs, and so on; the result goes to all. So no
        process handles more objects than the number of processes has binary digits.
        """
        step = 1
        with self._answering():
            while step < self.world:
                if self.rank % (2 * step):
                    distributed.send_object_list(
                        [thing], self._member(self.rank - step), self._group, self.device
                    )
                    break
                if self.rank + step < self.world:
                    received: list[Any] = [None]
                    distributed.recv_object_list(
                        received, self._member(self.rank + step), self._group, self.device
                    )
                    thing = join(thing, received[0])
                step *= 2
            result: list[Any] = [thing]
            distributed.broadcast_object_list(result, self._member(0), self._group, self.device)
        joint: T = result[0]
        return joint

    def _reduced(self, x: Tensor, op: Any) -> Tensor:
        if not x.numel():
            return x
        there = x.to(self.device)
        with self._answering():
            distributed.all_reduce(there, op, self._group)
        return there.to(x.device)

    def _member(self, rank: int) -> int:
        """The number of a process of this group among all processes."""
        return rank if self._group is None else distributed.get_global_rank(self._group, rank)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch has no other class for it
            raise RuntimeError(
                f"sync: process {self.rank} waited for {self.world - 1} others, and at least one "
                f"did not answer ({error}). It has died, does not call sync(), or is later than "
                "the timeout of init_process_group(...). Nothing is lost here: report() and "
                "state_dict() have what this process has measured."
            ) from error


def _device(group: distributed.ProcessGroup | None) -> torch.device:
    """Where a group exchanges tensors: on the CPU, if it can."""
    backends = distributed.get_backend_config(group)  # such as "cpu:gloo,cuda:nccl"
    devices = [backend.partition(":")[0] for backend in backends.split(",")]
    return torch.device("cpu" if "cpu" in devices else devices[0])
