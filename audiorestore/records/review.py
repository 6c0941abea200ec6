"""What a person decided about a result, as it stands in its record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Decision = Literal["accept", "reject", "redo"]


@dataclass(frozen=True)
class Review:
    """A person's decision about one result.

    Args:
        decision: accept: this is the result, and never made again. reject: it is left out. redo: it is made again.
        by: who. at: when, ISO 8601 with its offset from UTC. note: why.
        strength_db: of redo: the most by which anything is to be reduced; None leaves it to the settings of the run.
        followed: of redo: when the result was made that this record is of; None until then.
    """

    decision: Decision
    by: str
    at: str
    note: str = ""
    strength_db: float | None = None
    followed: str | None = None

    def __post_init__(self) -> None:
        if self.decision not in get_args(Decision):
            raise ValueError(f"decision: expected one of {', '.join(get_args(Decision))}, found {self.decision!r}")
        if not self.by.strip():
            raise ValueError("by: expected a name, found none")
        if self.strength_db is not None and self.decision != "redo":
            raise ValueError(f"strength_db: expected none with {self.decision}, found {self.strength_db:g}")
        if self.strength_db is not None and not 0 <= self.strength_db < math.inf:
            raise ValueError(f"strength_db: expected a number from 0 up, found {self.strength_db}")
