"""The fault matrix: what can go wrong between a client and its server, and what is promised for each.

The rows are data. `tests/test_matrix.py` carries them out, and docs/reliability.md shows them.
"""

from collections.abc import Sequence
from typing import Final

from .answers import ANSWERS
from .case import Case, Row
from .network import NETWORK
from .programs import PROGRAMS

ROWS: Final[Sequence[Row]] = (*NETWORK, *ANSWERS, *PROGRAMS)

__all__ = ["ROWS", "Case", "Row"]
