"""The implementation of the pytest plugin's fixtures, and the types to annotate them with: docs/testing.md.

Needs the extra `testing`.
"""

from .server import EmulatorServer, JinaEmulator, ReceivedRequest

__all__ = ["EmulatorServer", "JinaEmulator", "ReceivedRequest"]
