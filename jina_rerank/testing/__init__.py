"""What the fixtures of the pytest plugin are made of, and the types to annotate them with: docs/testing.md.

It needs the extra `testing`.
"""

from .server import EmulatorServer, JinaEmulator, ReceivedRequest

__all__ = ["EmulatorServer", "JinaEmulator", "ReceivedRequest"]
