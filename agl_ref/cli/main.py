"""The parser of `agl-ref`, its version and its exit codes; the commands have a file each.

Exit codes: 0 good, 1 a checked thing failed, 2 ambiguous (oracle only), 3 bad input with one line on stderr,
130 stopped by Ctrl-C.
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

from agl_ref import __version__

FAILED, BAD_INPUT, STOPPED = 1, 3, 130


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line and exit code 3."""

    def error(self, message):
        print(f"agl-ref: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(BAD_INPUT)


def folder_option(option, name):
    """The Path that an option names; ValueError for an empty name."""
    if not name:
        raise ValueError(f"{option}: expected the name of a folder, received an empty one; give a name")
    return Path(name)


def _parser(command="train"):
    """The parser; train's options, whose defaults need SciPy, are left out where `command` is another."""
    parser = _Parser(
        prog="agl-ref",
        description="Surrogate-gradient training of spiking neural networks with MPD-AGL's adaptive width.",
        epilog="Start with: agl-ref demo",
    )
    parser.add_argument("--version", action="version", version=f"agl-ref {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    from . import ablation, check, course, demo, evaluate, identify, selftest, train, vectors

    demo.add_parsers(commands)
    train.add_parsers(commands, with_options=command == "train")
    for module in (evaluate, ablation, check, identify, selftest, vectors, course):
        module.add_parsers(commands)
    return parser


def main(argv=None):
    """Run the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    args = _parser(argv[0] if argv else None).parse_args(argv)
    warnings.showwarning = lambda message, *rest, **kw: print(f"agl-ref: warning: {message}", file=sys.stderr)
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:  # Interrupted, whose state was saved, is one too
        print(f"agl-ref: {str(stop) or 'stopped, without saving'}", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # whoever read the output has gone
        sys.stdout = open(os.devnull, "w")
        return FAILED
    except OSError as error:
        where = error.filename or "a file"
        print(f"agl-ref: {where}: expected a place that can be read and written, received: {error.strerror or error}; "
              "choose another", file=sys.stderr)  # fmt: skip
        return BAD_INPUT
    except (ValueError, TypeError) as error:
        print(f"agl-ref: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except FloatingPointError as error:
        print(f"agl-ref: {error}", file=sys.stderr)
        return FAILED
