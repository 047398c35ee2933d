"""The command `eegxai`; `python -m eegxai_support` is the same."""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Before PyTorch is loaded. Its threads spin while they wait for each other, which beside other work on the same cores
# takes several times as long; the threads that are told to sleep cost a few hundredths alone.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from eegxai_support.report import command, doctor

# What a library will change one day is for those who call it, not for those who call this command.
NUMBER = re.compile(r"(?<![\w.-])\d+(\.\d+)?(e[+-]?\d+)?(?![\w-])")  # by itself: that of a channel or a run is a name
OF_LIBRARIES = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return 0, 1 where it found a fault, 2 where it could not run and 130 where it was stopped."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["benchmark"]:
        return _told("eegxai benchmark", lambda: _benchmark(arguments[1:]), debug=False)
    given, strange = _parser().parse_known_args(command.joined(arguments))
    if strange:  # named by the command that does not know them, not by `eegxai`
        given.parser.error(f"unrecognized arguments: {' '.join(strange)}")
    given.command_line = ["eegxai", *arguments]
    return _told(f"eegxai {given.command}", lambda: given.run(given), given.debug)


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(
        prog="eegxai",
        description="Explain decoders of EEG, and know whether the explanation can be believed.",
        epilog="eegxai COMMAND --help describes a command, with examples. Set EEGXAI_DEBUG=1 for whole tracebacks.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {command.installed_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (command.add_report, command.add_verify, doctor.add_doctor):
        added = add(commands)
        added.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
        added.set_defaults(parser=added)
    commands.add_parser("benchmark", help="score attribution methods on simulated EEG", add_help=False)
    return parser


def _benchmark(arguments: list[str]) -> int:
    from eegxai_support.benchmark.__main__ import main as benchmark

    return benchmark(arguments)


def _told(prog: str, run: Callable[[], int], debug: bool) -> int:
    """Run something; an error is one line, a warning one too, and a traceback is there for who asks for it."""
    with _plain_warnings(prog):
        try:
            return run()
        except KeyboardInterrupt:
            print(f"\n{prog}: stopped. The same command goes on where it was.", file=sys.stderr)
            return 130
        except Exception as error:
            if debug or os.environ.get("EEGXAI_DEBUG"):
                raise
            print(f"{prog}: {_in_one_line(error)}", file=sys.stderr)
            return 2


def _in_one_line(error: Exception) -> str:
    """Return what an error says; one that is not ours comes with its name, for it may say nothing by itself."""
    said = " ".join(str(error).split())
    if said and type(error).__module__.startswith(("builtins", "eegxai_support")) and isinstance(error, SAYING):
        return said
    if isinstance(error, MemoryError):
        return f"there is too little memory ({said or 'MemoryError'}). Use --resample, or give fewer files."
    return f"{type(error).__name__}: {said or 'no message'} (--debug shows where it came from)"


SAYING = (ValueError, TypeError, OSError, ImportError, NotImplementedError)  # what the package raises on purpose


@contextmanager
def _plain_warnings(prog: str) -> Iterator[None]:
    """Show each kind of warning once, as a line without the place in a source that it came from.

    Fifteen networks have fifteen numbers to say the same with: of warnings that differ in these the first is shown.
    """
    shown = set()

    def show(message, category, filename, lineno, file=None, line=None):
        from tqdm import tqdm

        said = " ".join(str(message).split())
        if (kind := NUMBER.sub("0", said)) not in shown:
            shown.add(kind)
            tqdm.write(f"{prog}: note: {said}", file=sys.stderr)  # below the bars, not within them

    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("always")
            for category in OF_LIBRARIES:
                warnings.simplefilter("ignore", category)
        warnings.showwarning = show
        yield


if __name__ == "__main__":
    sys.exit(main())
