"""`eegxai report` and `eegxai verify`: what they take, and what they call."""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
import sys
import textwrap
from collections.abc import Callable
from importlib.metadata import version

from eegxai_support.files import expanded

READING = (
    "events annotations event_file tmin tmax baseline band resample reference montage rename exclude unit group".split()
)
REPORTING = "group methods seeds epochs seed title".split()  # both are left to the functions where they are not given

EXAMPLES = """\
examples:
  # Epochs with their events; three seeds of EEGNet, each group of trials explained by networks that never saw it.
  eegxai report subject07-epo.fif --out report --train EEGNet

  # Two runs with an event file each; the codes get names, and the window is 2 to 4 s after them.
  eegxai report run1_raw.fif run2_raw.fif --event-file run1-eve.fif run2-eve.fif --events 13Hz=2,21Hz=3,17Hz=4 \\
      --tmin 2 --tmax 4 --band 6,48 --out report --train ShallowFBCSPNet --seeds 5

  # A first look in a minute, at classes that annotations mark.
  eegxai report S007R04.edf S007R08.edf S007R12.edf --annotations T1,T2 --tmin 1 --tmax 4 --band 7,38 --resample 80 \\
      --montage colin27_1005 --reference average --out report --train EEGNet --quick

  # A network of your own: build(trials) in my_nets.py returns it, the file holds its weights.
  eegxai report mine.set --events left=1,right=2 --tmin -0.5 --tmax 2 --baseline -0.2,0 --exclude EOG,EMG \\
      --out report --model weights.safetensors --network my_nets:build

Stopped or killed, the same command goes on where it was.
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and that takes no abbreviations, which the next option would break."""

    def __init__(self, *, description: str | None = None, **options):
        super().__init__(
            description=textwrap.fill(description or "", 79),
            formatter_class=argparse.RawDescriptionHelpFormatter,  # leaves the examples as they are
            allow_abbrev=False,
            **options,
        )

    def error(self, message: str):
        """Say what is wrong in one line and leave."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())} ({self.prog} --help)\n")


def joined(arguments: list[str]) -> list[str]:
    """Return arguments with ``--baseline -0.2,0`` as one of them: argparse takes -0.2,0 for an option."""
    result: list[str] = []
    for each in arguments:
        if result and re.fullmatch(r"-[\d.][\d.e+-]*,.*", each) and re.fullmatch(r"--[a-z-]+", result[-1]):
            result[-1] += f"={each}"
        else:
            result.append(each)
    return result


def installed_version() -> str:
    """Return the version of the package."""
    return version("eegxai-support")


def add_report(commands) -> argparse.ArgumentParser:
    """Add `report` to the commands."""
    parser = commands.add_parser(
        "report",
        help="explain a decoder on a recording: a page, its tables and a receipt",
        description="Train or load a decoder, explain it on a recording, and write a page that says whether the"
        " explanation can be believed, with its tables and receipt.json.",
        epilog=EXAMPLES,
    )
    parser.set_defaults(run=_report)
    parser.add_argument("files", nargs="+", metavar="FILE", type=expanded, help="recordings or epochs that MNE reads")
    parser.add_argument("--out", required=True, metavar="DIR", type=expanded, help="folder of the report")

    network = parser.add_argument_group("network: either of the first two")
    either = network.add_mutually_exclusive_group(required=True)
    either.add_argument("--train", metavar="NAME", help="train a braindecode model: EEGNet, ShallowFBCSPNet, …")
    either.add_argument("--model", metavar="FILE", type=expanded, help="trained weights, a .safetensors file")
    network.add_argument("--network", metavar="MODULE:CALLABLE",
                         help="what returns the network of --model, given the trials; not for weights that xs.save"
                         " wrote with the network's description")  # fmt: skip
    network.add_argument("--seeds", metavar="N", type=_count, help="networks to train for each group left out (3)")
    network.add_argument("--epochs", metavar="N", type=_count, help="passes over the trials in each training")

    trials = parser.add_argument_group("trials")
    trials.add_argument("--events", metavar="NAME=CODE,…", type=_codes, help="classes by their event codes")
    trials.add_argument(
        "--annotations",
        metavar="NAME,…",
        type=_names_or_pairs,
        help="classes by their annotations; left=T1,right=T2 gives them names",
    )
    trials.add_argument("--event-file", metavar="FILE", type=expanded, nargs="+", help="events, one file per FILE")
    trials.add_argument("--tmin", metavar="S", type=_number, help="begin of a trial, in s from its event")
    trials.add_argument("--tmax", metavar="S", type=_number, help="end of a trial, in s from its event")
    trials.add_argument("--baseline", metavar="FROM,TO", type=_interval,
                        help="window, in s, whose mean is taken off; an empty end is that of the trial")  # fmt: skip
    trials.add_argument("--group", metavar="COLUMN",
                        help="what must not stand on both sides of a split: run, subject, blocks (of time) or a column"
                        " of the metadata (run)")  # fmt: skip

    signal = parser.add_argument_group("signal")
    signal.add_argument("--band", metavar="LOW,HIGH", type=_interval, help="pass-band in Hz; either may be empty")
    signal.add_argument("--resample", metavar="HZ", type=_number, help="sampling rate of the trials")
    signal.add_argument("--reference", metavar="CHANNEL,…", type=_name_or_names, help="average, or reference channels")
    signal.add_argument("--montage", metavar="NAME", help="positions of the electrodes, such as colin27_1005")
    signal.add_argument("--rename", metavar="OLD=NEW,…", type=_pairs, help="other names of channels")
    signal.add_argument("--exclude", metavar="CHANNEL,…", type=_names, help="channels to leave out")
    signal.add_argument(
        "--unit", metavar="UNIT", help="what the numbers of the file are: V (MNE's), uV, standardised …"
    )

    report = parser.add_argument_group("report")
    report.add_argument("--methods", metavar="NAME,…", type=_names, help="attribution methods, of xs.METHODS")
    report.add_argument("--quick", action="store_true", help="less of everything, for a first look")
    report.add_argument("--title", help="title of the page")
    report.add_argument("--seed", metavar="N", type=int, help="of everything that is drawn (0)")
    return parser


def add_verify(commands) -> argparse.ArgumentParser:
    """Add `verify` to the commands."""
    parser = commands.add_parser(
        "verify",
        help="check a report against its receipt",
        description="Compute the hashes and a sample of the numbers again that a receipt.json names. Exits with 1 where"
        " one differs.",
        epilog="examples:\n  eegxai verify report/receipt.json\n"
        "  eegxai verify report/receipt.json --network my_nets:build",
    )
    parser.set_defaults(run=_verify)
    parser.add_argument("receipt", metavar="receipt.json", type=expanded, help="written by eegxai report")
    parser.add_argument("--network", metavar="MODULE:CALLABLE", help="as it was given to eegxai report")
    return parser


def _report(given: argparse.Namespace) -> int:
    _check(given)
    import mne

    import eegxai_support as xs

    with mne.use_log_level("WARNING"):
        recording = xs.read_recording(given.files, **_chosen(given, READING))
        made = xs.make_report(
            given.train or _loaded(given, recording.trials),
            recording.trials,
            given.out,
            raw=recording.by_subject,
            quick=given.quick,
            notes=recording.notes,
            files=recording.files,
            dropped=recording.dropped,
            command=shlex.join(given.command_line),
            **_chosen(given, REPORTING),
        )
    receipt = given.out / "receipt.json"
    verdict = json.loads(receipt.read_text(encoding="utf-8"))["verdict"]
    print(f"verdict  {verdict['source']}: {verdict['text']}\npage     {made}\nreceipt  {receipt}")
    return 0


def _check(given: argparse.Namespace) -> None:
    """Refuse what cannot be meant, before anything is read or trained."""
    if given.annotations and given.events:
        raise ValueError("--annotations and --events name the classes twice; give one of them.")
    if given.event_file and len(given.event_file) != len(given.files):
        raise ValueError(
            f"{len(given.event_file)} event files for {len(given.files)} recordings; expected one for each FILE, in the"
            " same order."
        )
    if given.train and given.network:
        raise ValueError("--network goes with --model; --train takes the name of a network alone.")
    if given.model and (given.seeds or given.epochs):
        raise ValueError("--seeds and --epochs go with --train; the network of --model is trained already.")
    if given.out.exists() and not given.out.is_dir():
        raise ValueError(f"--out {given.out} is a file; expected a folder, which is made where it lacks.")
    if given.model:
        from eegxai_support.report.networks import check_weights_file

        check_weights_file(given.model)


def _loaded(given: argparse.Namespace, trials):
    from eegxai_support.report.networks import load_network

    here_first()
    return load_network(given.model, trials, given.network)


def here_first() -> None:
    """Let modules of the current folder be imported, as `python -m` does and an installed command does not."""
    if "" not in sys.path:
        sys.path.insert(0, "")


def _verify(given: argparse.Namespace) -> int:
    import eegxai_support as xs

    here_first()
    table = xs.verify_receipt(given.receipt, network=given.network)
    for row in table.itertuples():
        print(f"{row.status:<12}{row.what:<9}{row.name}{': ' * bool(row.detail)}{row.detail}")
    found = table["status"].value_counts()
    print(f"{len(table)} looked at: {', '.join(f'{n} {status}' for status, n in found.items())}.")
    return int("refused" in found)


def _chosen(given: argparse.Namespace, names: list[str]) -> dict:
    return {name: value for name in names if (value := getattr(given, name)) is not None}


def _read(text: str, each: Callable, expected: str) -> list:
    """Return the parts between commas, each as a function reads it."""
    try:
        return [each(part.strip()) for part in text.split(",")]
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"{text!r} was given; expected {expected}.") from None


def _name(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _names(text: str) -> list[str]:
    return _read(text, _name, "names between commas, such as A,B")


def _name_or_names(text: str) -> str | list[str]:
    names = _names(text)
    return names if len(names) > 1 else names[0]


def _assigned(text: str, value: Callable) -> tuple:
    name, _, given = text.rpartition("=")  # a name may hold an =, a code and a new name do not
    return _name(name.strip()), value(given.strip())


def _mapping(text: str, value: Callable, expected: str) -> dict:
    pairs = _read(text, lambda part: _assigned(part, value), expected)
    if len(dict(pairs)) < len(pairs):
        raise argparse.ArgumentTypeError(f"{text!r} was given; expected every name once.")
    return dict(pairs)


def _codes(text: str) -> dict[str, int]:
    return _mapping(text, int, "names with whole numbers, such as left=1,right=2")


def _pairs(text: str) -> dict[str, str]:
    return _mapping(text, _name, "old names with new ones, such as EEG1=C3,EEG2=C4")


def _names_or_pairs(text: str) -> list[str] | dict[str, str]:
    return _mapping(text, _name, "names with annotations, such as left=T1,right=T2") if "=" in text else _names(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} was given; expected a number.")
    return number


def _interval(text: str) -> tuple[float | None, float | None]:
    ends = _read(text, lambda part: _number(part) if part else None, "two numbers, such as 7,38")
    if len(ends) != 2 or (None not in ends and not ends[0] < ends[1]):
        raise argparse.ArgumentTypeError(f"{text!r} was given; expected two numbers, the lower one first.")
    return ends[0], ends[1]


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} was given; expected a whole number from 1 on.")
    return int(text)
