"""The command `agl-ref`: the parser in main.py, one file for each command."""

from .main import main

__all__ = ["main"]
