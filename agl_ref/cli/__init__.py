"""The command `agl-ref`, a file for each of its commands.

main.py      the parser, the version, the exit codes
shared.py    options and words that several commands have in common
streams.py   standard streams that are closed or full
"""

from .main import main

__all__ = ["main"]
