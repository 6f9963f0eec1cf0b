"""The two directions in which an invertible map runs."""

from __future__ import annotations

from typing import Literal

Direction = Literal["forward", "inverse"]

OPPOSITE: dict[Direction, Direction] = {"forward": "inverse", "inverse": "forward"}
