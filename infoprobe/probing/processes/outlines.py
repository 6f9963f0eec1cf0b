"""What processes must agree on before they add up what they have kept: which layers there are."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from infoprobe.probing.circumstances import Circumstances
from infoprobe.probing.record import Record
from infoprobe.rows import LayerCall

Outline = dict[LayerCall, tuple[Circumstances, list[dict[str, Any]]]]


def outline_of(record: Record) -> Outline:
    """Which calls there are, in their order, and what is to be agreed on at each."""
    return {
        call: (
            record.circumstances.get(call, Circumstances()),
            [kept[need].outline() for need in record.needs],
        )
        for call, kept in list(record.calls.items())
    }


def joined(first: Outline, later: Outline) -> Outline:
    """The outline of a record that has what two others have, as if the first came first."""
    found = dict(first)
    for call, (circumstances, kept) in later.items():
        if call in first:
            known, earlier = first[call]
            together = Circumstances.from_state_dict(known.state_dict())
            together.add(circumstances)
            found[call] = together, list(map(_joined, earlier, kept))
        else:
            found[call] = circumstances, kept
    return found


def _joined(first: Any, later: Any) -> Any:
    """Dictionaries key by key; of types, the one that holds both; else the first that is there."""
    if isinstance(first, dict):
        more = {key: _joined(first[key], later[key]) for key in first if key in later}
        return {**first, **later, **more}
    if isinstance(first, torch.dtype):
        return torch.promote_types(first, later)
    return later if first is None or first == "" else first


def signature(thing: Any) -> int:
    """A number below 2**62 that is the same in every process for what looks the same."""
    return int.from_bytes(hashlib.sha256(repr(thing).encode()).digest()[:8], "big") >> 2


def signature_of(outline: Outline) -> int:
    """The signature of an outline, in which the order of a set's elements does not count."""
    return signature([(call, known.state_dict(), kept) for call, (known, kept) in outline.items()])
