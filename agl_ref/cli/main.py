"""The parser of `agl-ref`, its version and its exit codes; the commands have a file each.

Exit codes: 0 good, 1 a checked thing failed, 2 ambiguous (oracle only), 3 bad input with one line on stderr,
130 stopped by Ctrl-C.
"""

import argparse
import os
import sys
import warnings
from importlib import import_module

from agl_ref import __version__

from .shared import BAD_INPUT, FAILED, STOPPED
from .streams import kept_going

COMMANDS = {  # name, which is also that of the file: what it does
    "demo": "train a small conv SNN at five thresholds, with a fixed and with the adaptive width (under a minute)",
    "inspect": "what a data file or folder holds, and what train would do with it",
    "train": "train a network on a data set",
    "eval": "test accuracy and layer statistics of a trained run",
    "ablation": "put the paper's claim to the test: all width rules, several seeds, paired tests (hours)",
    "check": "judge a dump of an implementation's arrays against a golden case",
    "explain": "every number of one neuron with its equation filled in, of a run or of a dump that fails",
    "identify": "name the convention, or the known bug, that an implementation's arrays show",
    "selftest": "check that correct implementations pass the golden cases, and that wrong ones do not",
    "vectors": "the golden cases: list, show, export, verify, certify",
    "course": "for teachers: the points of submitted notebooks",
    "figures": "write the tutorials' figures as PNG and SVG, for slides",
}
TRAINING = ("demo", "train", "eval", "ablation")  # they have large arrays


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line and exit code 3."""

    def parse_known_args(self, args=None, namespace=None):
        """Refuse what a command does not know in its own name: argparse would leave it to the parser of all commands."""
        namespace, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return namespace, rest

    def error(self, message):
        print(f"agl-ref: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(BAD_INPUT)


def parser_of(command):
    """The parser of all commands, with the options of `command`.

    Only the file of that command is imported: others need Numba, SciPy or matplotlib, which take seconds.
    """
    parser = _Parser(
        prog="agl-ref",
        description="Surrogate-gradient training of spiking neural networks with MPD-AGL's adaptive width.",
        epilog="Start with: agl-ref demo",
    )
    parser.add_argument("--version", action="version", version=f"agl-ref {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        own = commands.add_parser(name, help=text)
        if name == command:
            module = import_module(f".{name}", __package__)
            own.set_defaults(run=getattr(module, "run", None))  # actions of a command may have their own
            module.add_options(own)
    return parser


def main(argv=None):
    """Run the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        with kept_going():
            return _run(argv)
    except OSError as error:  # standard output's
        return _refused(f"{error.filename}: expected a place that can be written, received: {error.strerror}")


def _run(argv):
    """Run the command with all its errors as one line on stderr; returns the exit code."""
    try:
        _require_surroundings()
        args = parser_of(next((word for word in argv if not word.startswith("-")), None)).parse_args(argv)
        warnings.showwarning = lambda message, *rest, **kw: print(f"agl-ref: warning: {message}", file=sys.stderr)
        if args.command in TRAINING:
            from agl_ref.engine.memory import keep_freed_memory  # here: NumPy, which --help does without

            keep_freed_memory()
        return args.run(args)
    except KeyboardInterrupt as stop:  # Interrupted, whose state was saved, is one too
        print(f"agl-ref: {str(stop) or 'stopped, without saving'}", file=sys.stderr)
        return STOPPED
    except OSError as error:
        where = error.filename or "a file"
        return _refused(
            f"{where}: expected a place that can be read and written, received: {error.strerror or error}; choose another"
        )
    except MemoryError as error:
        return _refused(
            f"memory: expected enough for what was asked, received: {error or 'none'}; ask for less at once"
        )
    except (ValueError, TypeError, OverflowError) as error:
        return _refused(error)
    except FloatingPointError as error:
        print(f"agl-ref: {error}", file=sys.stderr)
        return FAILED


def _refused(reason):
    """Exit code 3, with the reason as one line on stderr."""
    print(f"agl-ref: {' '.join(str(reason).split())}", file=sys.stderr)
    return BAD_INPUT


def _require_surroundings():
    """Refuse, before anything is imported, what would end an import in a traceback; ValueError."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ValueError(
            "the current folder: expected one that exists, received one that was deleted; cd to another"
        ) from None
    threads = os.environ.get("NUMBA_NUM_THREADS") or "1"
    if not (threads.isdecimal() and int(threads) > 0):
        raise ValueError(
            f"NUMBA_NUM_THREADS: expected a number of threads from 1, received {threads[:80]!r}; set one, or unset it"
        )
    os.environ.pop("MPLBACKEND", None)  # figures go into files; Matplotlib refuses names that it does not know
