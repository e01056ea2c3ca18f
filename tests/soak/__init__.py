"""The soak: threads and tasks that ask a faulty server for as long as one likes, while everything is counted.

`python -m tests.soak 10m` (or `make soak SOAK=10m`) runs it; docs/reliability.md tells what it shows.
"""

from typing import Final

GROUP: Final = "x-soak"
"""The header by which requests tell the server the group of their call."""
