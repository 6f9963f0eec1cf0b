"""What a process asks the others for, and how the answers come to many questions at once.

Whatever is kept says in a generator how processes add it up: it yields a question, such as
``total(x)`` for the sum of every process's tensor ``x``, and is given the answer. The generators
of all layers run side by side, question by question, so that the processes exchange a few large
tensors instead of many small ones.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

How = Literal["total", "most", "all"]

R = TypeVar("R")


class Question(NamedTuple):
    """A question to all processes, each of which asks it at the same time.

    Attributes:
        how: The ``"total"`` or the ``"most"`` of the tensors of all processes, which have one
            shape and one type; or ``"all"`` for a list of every process's object.
        own: What this process has.
    """

    how: How
    own: Any


Answered = Generator[Question, Any, R]


def total(x: Tensor) -> Question:
    """Asks for the sum of every process's tensor."""
    return Question("total", x)


def most(x: Tensor) -> Question:
    """Asks for the largest of every process's numbers, element by element."""
    return Question("most", x)


def everyone(thing: Any) -> Question:
    """Asks for every process's object, in a list. The list grows with the number of processes."""
    return Question("all", thing)


class Exchange(Protocol):
    """Whoever answers.

    Attributes:
        rank: The number of this process.
        world: The number of processes.
    """

    rank: int
    world: int

    def total(self, x: Tensor) -> Tensor:
        """The sum of every process's tensor, in place of this one's."""

    def most(self, x: Tensor) -> Tensor:
        """The largest of every process's numbers, in place of this one's."""

    def everyone(self, thing: Any) -> list[Any]:
        """Every process's object."""


# About how many bytes are exchanged at once.
_BUCKET = 1 << 26


def side_by_side(exchange: Exchange, works: Sequence[Answered[R]]) -> list[R]:
    """Runs all works to their ends, and answers in each round what all of them ask.

    The works must ask the same in every process, in the same order.
    """
    results: dict[int, R] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(works)))
    while answers:
        asked: dict[tuple[How, torch.dtype | None], list[int]] = {}
        questions: dict[int, Question] = {}
        for i, answer in answers.items():
            try:
                question = works[i].send(answer)
            except StopIteration as stop:
                results[i] = stop.value
                continue
            questions[i] = question
            dtype = question.own.dtype if isinstance(question.own, Tensor) else None
            asked.setdefault((question.how, dtype), []).append(i)
        answers = {}
        # In one order in all processes, whatever the order in which they first came up.
        for (how, _), askers in sorted(asked.items(), key=lambda item: str(item[0])):
            own = [questions[i].own for i in askers]
            given = _exchanged(exchange, how, own)
            answers |= zip(askers, given, strict=True)
        answers = {i: answers[i] for i in sorted(answers)}
    return [results[i] for i in range(len(works))]


def _exchanged(exchange: Exchange, how: How, own: list[Any]) -> list[Any]:
    if how == "all":
        return list(zip(*exchange.everyone(own), strict=True))
    reduce = exchange.total if how == "total" else exchange.most
    found: list[Tensor] = []
    for bucket in _buckets(own):
        flat = reduce(torch.cat([x.reshape(-1) for x in bucket]))
        parts = torch.split(flat, [x.numel() for x in bucket])
        found += [part.view(x.shape) for part, x in zip(parts, bucket, strict=True)]
    return found


def _buckets(tensors: list[Tensor]) -> list[list[Tensor]]:
    """The tensors in groups of about one size."""
    buckets: list[list[Tensor]] = []
    room = 0
    for x in tensors:
        if not buckets or x.nbytes > room:
            buckets.append([])
            room = _BUCKET
        buckets[-1].append(x)
        room -= x.nbytes
    return buckets
