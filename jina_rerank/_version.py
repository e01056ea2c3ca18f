"""The version, which the build reads and the User-Agent header contains."""

__version__ = "0.1.0"
