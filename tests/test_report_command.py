"""The commands: what reaches the functions behind them, and what people are told where something is wrong."""

import json
import os
import shlex
import signal
import subprocess
import sys
import tomllib
import warnings
from types import SimpleNamespace

import mne
import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import ROOT
from networks import NETWORKS, build
from refusals import on_the_page
from test_imports import in_a_fresh_process

import eegxai_support as xs
from eegxai_support.__main__ import main
from eegxai_support.decoders.descriptions import describe, described
from eegxai_support.report import command
from eegxai_support.report.networks import load_network

TRIALS = xs.simulate("spectral", n_trials=8, duration=1.2, sfreq=100, seed=0).pick(["C3", "Cz", "C4"])
VERDICT = {"source": "brain", "rule": "a rule", "number": 0.3, "text": "It uses the brain."}


def build_network(trials):
    return xs.InterpretableCNN(trials.signal.shape[1], trials.n_classes, trials.signal.shape[2], kernel_length=9)


@pytest.fixture
def weights():
    return build_network(TRIALS)


@pytest.fixture
def called(monkeypatch, tmp_path, weights):
    """Stand in for reading and for the report, in an empty folder; return what each was called with."""
    asked = SimpleNamespace(paths=None, reading=None, model=None, reporting=None, trials=None)
    recording = SimpleNamespace(
        trials=TRIALS, by_subject={1: "raw"}, notes=["a note"], files=[("a", 64 * "0")], dropped="dropped"
    )

    def read_recording(paths, **options):
        asked.paths, asked.reading = [str(path) for path in paths], options
        return recording

    def make_report(model, trials, out_dir, **options):
        asked.model, asked.trials, asked.out, asked.reporting = model, trials, out_dir, options
        out_dir.mkdir(parents=True)
        (out_dir / "receipt.json").write_text(json.dumps({"verdict": VERDICT}))
        return out_dir / "report.html"

    monkeypatch.setattr(xs, "read_recording", read_recording, raising=False)
    monkeypatch.setattr(xs, "make_report", make_report, raising=False)
    monkeypatch.delenv("EEGXAI_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    xs.save(weights, "weights.safetensors")
    (tmp_path / "text.safetensors").write_text("What a pity, this is text.")
    (tmp_path / "my_nets.py").write_text("from test_report_command import build_network as build\nnothing = 3\n")
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    return asked


def told(capsys):
    """Return the one line that was written to stderr."""
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.endswith("\n"), err
    return err.strip()


# ---- what reaches the functions --------------------------------------------------------------------------------------


def test_every_option_reaches_the_function_it_is_for(called, capsys):
    line = (
        "report a.fif b.fif --event-file a-eve.fif b-eve.fif --events left=1,right=2 --tmin -0.5 --tmax 2"
        " --baseline -0.2,0 --band 7,38 --resample 80 --reference A1,A2 --montage colin27_1005"
        " --rename EEG1=C3,EEG2=C4 --exclude EOG,EMG --unit uV --group subject --train EEGNet --seeds 5 --epochs 40"
        " --quick --title Mine --seed 7 --methods deep_lift,lrp_gamma --out it/report"
    )
    assert main(shlex.split(line)) == 0
    assert called.paths == ["a.fif", "b.fif"] and called.model == "EEGNet" and called.trials is TRIALS
    files = called.reading.pop("event_file")
    assert [str(path) for path in files] == ["a-eve.fif", "b-eve.fif"]
    assert called.reading == {
        "events": {"left": 1, "right": 2}, "tmin": -0.5, "tmax": 2.0, "baseline": (-0.2, 0.0), "band": (7.0, 38.0),
        "resample": 80.0, "reference": ["A1", "A2"], "montage": "colin27_1005", "rename": {"EEG1": "C3", "EEG2": "C4"},
        "exclude": ["EOG", "EMG"], "unit": "uV", "group": "subject",
    }  # fmt: skip
    assert called.reporting == {
        "raw": {1: "raw"}, "quick": True, "notes": ["a note"], "files": [("a", 64 * "0")], "dropped": "dropped",
        "group": "subject", "methods": ["deep_lift", "lrp_gamma"], "seeds": 5, "epochs": 40, "seed": 7, "title": "Mine",
        "command": f"eegxai {line}",
    }  # fmt: skip
    out = capsys.readouterr().out
    assert "brain: It uses the brain." in out and "it/report/report.html" in out and "it/report/receipt.json" in out


def test_what_is_not_given_is_left_to_the_functions(called):
    assert main(["report", "a.fif", "--train", "EEGNet", "--out", "it"]) == 0
    assert called.reading == {}
    assert called.reporting.keys() == {"raw", "quick", "notes", "files", "dropped", "command"}
    assert called.reporting["quick"] is False


def test_one_reference_is_a_name_and_an_empty_end_is_none(called):
    assert main(shlex.split("report a.fif --train EEGNet --out it --reference average --baseline ,0 --band 1,")) == 0
    assert called.reading == {"reference": "average", "baseline": (None, 0.0), "band": (1.0, None)}
    assert main(shlex.split("report a.fif --train EEGNet --out other --baseline -2e-1,")) == 0
    assert called.reading == {"baseline": (-0.2, None)}
    assert (
        main(shlex.split("report a.fif --train EEGNet --out another --annotations 'left fist=T1,right fist=T2'")) == 0
    )
    assert called.reading == {"annotations": {"left fist": "T1", "right fist": "T2"}}


def examples():
    lines = command.EXAMPLES.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("eegxai ")]


@pytest.mark.parametrize("example", examples())
def test_examples_of_the_help_run(example, called):
    prog, *arguments = shlex.split(example)
    assert prog == "eegxai" and main(arguments) == 0
    assert called.paths and called.reporting["command"] == shlex.join([prog, *arguments])
    assert all("," not in path and "=" not in path for path in called.paths)
    assert isinstance(called.model, xs.InterpretableCNN) == ("--model" in arguments)
    assert called.reading.get("montage", "biosemi64") in mne.channels.get_builtin_montages()


def test_the_help_holds_the_examples(capsys):
    assert len(examples()) == 4
    with pytest.raises(SystemExit) as left:
        main(["report", "--help"])
    assert left.value.code == 0 and command.EXAMPLES in capsys.readouterr().out


def test_the_command_is_installed_and_python_m_is_the_same():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"eegxai": "eegxai_support.__main__:main"}


def test_help_comes_without_what_takes_seconds_to_import():
    program = """
import runpy, sys
for arguments in (["--help"], ["report", "--help"], ["doctor", "--help"], ["report", "--out", "x"]):
    sys.argv = ["eegxai", *arguments]
    try:
        runpy.run_module("eegxai_support", run_name="__main__")
    except SystemExit as left:
        print("left", left.code)
print("imported", *{name.partition(".")[0] for name in sys.modules})
"""
    said = in_a_fresh_process(program, EAGER_IMPORT="")
    assert [line for line in said.splitlines() if line.startswith("left")] == ["left 0"] * 3 + ["left 2"]
    imported = set(said.splitlines()[-1].split())
    assert not imported & {"torch", "numpy", "scipy", "pandas", "mne", "matplotlib"}
    assert "usage: eegxai [-h]" in said and "eegxai_support" in imported


def test_benchmark_is_the_command_that_python_m_runs(monkeypatch):
    asked = []
    monkeypatch.setattr("eegxai_support.benchmark.__main__.main", lambda arguments: asked.append(arguments) or 1)
    assert main(["benchmark", "grid.yml", "results", "--jobs", "2", "--help"]) == 1
    assert asked == [["grid.yml", "results", "--jobs", "2", "--help"]]


# ---- what people are told --------------------------------------------------------------------------------------------

TRAIN = "a.fif --train EEGNet --out it"
MODEL = "a.fif --model weights.safetensors --out it"
REFUSED = [
    ("", "the following arguments are required: FILE, --out"),
    ("a.fif --out it", "one of the arguments --train --model is required"),
    (f"{TRAIN} --model weights.safetensors", "not allowed with argument --train"),
    (f"{TRAIN} --event left=1", "unrecognized arguments: --event left=1"),  # an abbreviation
    (f"{TRAIN} --events left", "'left' was given; expected names with whole numbers, such as left=1,right=2"),
    (f"{TRAIN} --events left=one,right=2", "expected names with whole numbers"),
    (f"{TRAIN} --events left=1,left=2", "expected every name once"),
    (f"{TRAIN} --events =1,right=2", "expected names with whole numbers"),
    (f"{TRAIN} --events left=1, --annotations A", "expected names with whole numbers"),
    (f"{TRAIN} --events left=1 --annotations A,B", "--annotations and --events name the classes twice"),
    (f"{TRAIN} --annotations A,,B", "expected names between commas"),
    (f"{TRAIN} --annotations left=T1,T2", "expected names with annotations, such as left=T1,right=T2"),
    (f"{TRAIN} --event-file a b", "2 event files for 1 recordings; expected one for each FILE"),
    (f"{TRAIN} --tmin early", "argument --tmin: 'early' was given; expected a number."),
    (f"{TRAIN} --resample nan", "argument --resample: 'nan' was given; expected a number."),
    (f"{TRAIN} --band inf,", "'inf,' was given; expected two numbers"),
    (f"{TRAIN} --baseline -0.2", "expected two numbers, the lower one first"),
    (f"{TRAIN} --baseline 0,-0.2", "expected two numbers, the lower one first"),
    (f"{TRAIN} --baseline a,b", "expected two numbers, such as 7,38"),
    (f"{TRAIN} --band 38,7", "expected two numbers, the lower one first"),
    (f"{TRAIN} --band 7,38,50", "expected two numbers"),
    (f"{TRAIN} --rename EEG1", "expected old names with new ones, such as EEG1=C3,EEG2=C4"),
    (f"{TRAIN} --seeds 0", "'0' was given; expected a whole number from 1 on"),
    (f"{TRAIN} --epochs 1.5", "'1.5' was given; expected a whole number from 1 on"),
    (f"{TRAIN} --network my_nets:build", "--network goes with --model"),
    (f"{MODEL} --seeds 3", "--seeds and --epochs go with --train"),
    ("a.fif --train EEGNet --out my_nets.py", "--out my_nets.py is a file; expected a folder"),
    ("a.fif --model none.safetensors --out it", "none.safetensors does not exist; expected a .safetensors file"),
    ("a.fif --model my_nets.py --out it", "my_nets.py ends with .py; expected weights in a .safetensors file"),
    ("a.fif --model weights.pt --out it", "is a pickle"),
    ("a.fif --model text.safetensors --out it", "text.safetensors is no whole safetensors file"),
    (f"{MODEL} --network my_nets", "network is 'my_nets'; expected 'module:callable'"),
    (f"{MODEL} --network no_nets:build", "'no_nets:build' cannot be imported (No module named 'no_nets')"),
    (f"{MODEL} --network my_nets:other", "'my_nets:other' names nothing"),
    (f"{MODEL} --network my_nets:nothing", "TypeError: 'int' object is not callable"),
]


def key(arguments):
    """Return what is wrong with a command, without what is right with all of them."""
    return arguments.removeprefix(TRAIN).removeprefix(MODEL).strip() or "nothing"


@pytest.mark.parametrize(("arguments", "said"), REFUSED)
def test_what_cannot_be_meant_is_refused_in_one_line(arguments, said, called, capsys):
    try:
        code = main(["report", *shlex.split(arguments)])
    except SystemExit as left:  # argparse leaves by itself
        code = left.code
    line = told(capsys)
    assert code == 2 and line.startswith("eegxai report: ") and said in line
    assert called.reporting is None
    assert on_the_page("The command line", key(arguments), line), line


class Strange(Exception):
    """An error that no one has heard of."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("two lines\n  of it"), "eegxai report: two lines of it"),
        (FileNotFoundError("a.fif does not exist."), "eegxai report: a.fif does not exist."),
        (Strange("what"), "eegxai report: Strange: what (--debug shows where it came from)"),
        (KeyError("run"), "eegxai report: KeyError: 'run' (--debug shows where it came from)"),
        (RuntimeError(), "eegxai report: RuntimeError: no message (--debug shows where it came from)"),
        (
            MemoryError(),
            "eegxai report: there is too little memory (MemoryError). Use --resample, or give fewer files.",
        ),
    ],
)
def test_an_error_is_one_line_and_the_traceback_for_who_asks(error, said, called, capsys, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(xs, "make_report", fails)
    arguments = ["report", *TRAIN.split()]
    assert main(arguments) == 2 and told(capsys) == said
    with pytest.raises(type(error)):
        main([*arguments, "--debug"])
    monkeypatch.setenv("EEGXAI_DEBUG", "1")
    with pytest.raises(type(error)):
        main(arguments)


def test_stopped_by_hand_it_says_that_it_goes_on(called, capsys, monkeypatch):
    def stopped(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(xs, "read_recording", stopped)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell that runs this in the background ignores it
    try:
        assert main(["report", *TRAIN.split(), "--debug"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "\neegxai report: stopped. The same command goes on where it was.\n"


def test_a_warning_is_a_line_and_comes_once(called, capsys, monkeypatch):
    rng = np.random.default_rng(0)

    def warns(*_, **__):
        for _ in range(2):
            warnings.warn("the scale\nis odd", stacklevel=1)
            warnings.warn("the scale is odd", RuntimeWarning, stacklevel=2)
            warnings.warn("EEG 001 of run-1 and C3 are flat", stacklevel=2)
            warnings.warn("EEG 001 of run-2 and C4 are flat", stacklevel=2)
            warnings.warn(f"another, {rng.random():.3g} of {rng.integers(1, 9)}", xs.BaselineWarning, stacklevel=1)
            warnings.warn("will change", DeprecationWarning, stacklevel=1)
            warnings.warn("will change soon", FutureWarning, stacklevel=1)
        raise ValueError("the end")

    monkeypatch.setattr(xs, "read_recording", warns)
    before = warnings.showwarning
    assert main(["report", *TRAIN.split()]) == 2
    first = np.random.default_rng(0)
    another = f"note: another, {first.random():.3g} of {first.integers(1, 9)}"
    flat = [f"note: EEG 001 of run-{run} and {name} are flat" for run, name in ((1, "C3"), (2, "C4"))]
    lines = ["note: the scale is odd", *flat, another, "the end"]
    assert capsys.readouterr().err.splitlines() == [f"eegxai report: {line}" for line in lines]
    assert warnings.showwarning is before


# ---- networks from files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ".pt .pth .pkl .pickle .ckpt .bin .joblib .PT".split())
def test_a_pickle_is_refused_unread_with_what_to_do(ending, called, capsys, tmp_path):
    path = tmp_path / f"weights{ending}"  # there is none: whoever reads it says something else
    assert main(["report", "a.fif", "--out", "it", "--model", str(path)]) == 2
    line = told(capsys)
    assert "is a pickle" in line and "safetensors.torch.save_file(torch.load('weights" in line
    assert called.paths is None


def test_the_advice_for_a_pickle_works(tmp_path, monkeypatch, called, capsys):
    torch.save(build_network(TRIALS).state_dict(), "mine.pt")
    assert main(["report", "a.fif", "--out", "it", "--model", "mine.pt"]) == 2
    advice = told(capsys).partition("as safetensors: ")[2].partition(". Where")[0]
    exec(advice, {})
    assert main(shlex.split("report a.fif --out it --model mine.safetensors --network my_nets:build")) == 0


def test_weights_fill_the_network_that_the_callable_returns(called, weights):
    assert main(shlex.split(f"report {MODEL} --network my_nets:build")) == 0
    for name, value in weights.state_dict().items():
        assert torch.equal(called.model.state_dict()[name], value)
    assert not called.model.training


def test_weights_that_were_saved_here_need_no_callable(called, weights):
    assert main(shlex.split(f"report {MODEL}")) == 0
    assert type(called.model) is type(weights)
    for name, value in weights.state_dict().items():
        assert torch.equal(called.model.state_dict()[name], value)


def test_weights_without_their_network_need_the_callable(called, capsys, weights):
    xs.save(weights, "weights.safetensors", network=None)
    assert main(shlex.split(f"report {MODEL}")) == 2
    line = told(capsys)
    assert "does not say which network its weights belong to" in line and "--network module:callable" in line


@pytest.mark.parametrize("name", NETWORKS)
def test_a_described_network_is_built_again(name, tmp_path):
    model = build(name)
    state = torch.get_rng_state()
    xs.save(model, tmp_path / "it.safetensors")
    assert torch.equal(torch.get_rng_state(), state)
    again = load_network(tmp_path / "it.safetensors", TRIALS)
    x = np.random.default_rng(0).standard_normal((2, 3, model.n_times)).astype("float32")
    assert type(again) is type(model)
    np.testing.assert_array_equal(xs.predict(again, x), xs.predict(model, x))


def test_a_network_that_json_cannot_hold_is_not_described():
    from braindecode.models import EEGNet

    class Mine(torch.nn.Module):
        """A network of one's own."""

    options = {"n_chans": 3, "n_outputs": 2, "n_times": 100}
    assert describe(EEGNet(**options)) is not None
    assert describe(EEGNet(**options, activation=torch.nn.GELU)) is not None
    assert describe(EEGNet(**options, activation=lambda: torch.nn.GELU())) is None
    assert describe(Mine()) is None
    assert describe(xs.adapted(EEGNet(**options), output=lambda output: output[:, :1])) is None


@pytest.mark.parametrize(
    "asked",
    [
        {"name": "EEGNet", "config": {"n_chans": 3, "n_outputs": 2, "n_times": 100, "activation": "marker.Marker"}},
        {"name": "marker:Marker", "config": {}},
        {"name": "EEGNet", "config": {"n_chans": 3}},
        {"name": "EEGNet"},
    ],
)
def test_a_header_makes_nothing_run_but_known_networks(asked, tmp_path, monkeypatch):
    (tmp_path / "marker.py").write_text("raise SystemExit('the header was believed')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"cannot be built .* Give --network module:callable"):
        described({"network": json.dumps(asked)}, "it")
    assert "marker" not in sys.modules


def failing(trials):
    raise KeyError("n_chans")


def bare(trials):
    return trials


@pytest.mark.parametrize(
    ("network", "error", "said"),
    [
        (
            failing,
            ValueError,
            r"failing fails at test_report_command.py, line \d+: KeyError: 'n_chans'. failing is called",
        ),
        (bare, TypeError, "bare returns a SimulatedTrials; expected a torch.nn.Module"),
        (xs.InterpretableCNN, ValueError, "missing 2 required positional arguments"),
        (lambda trials: torch.nn.Linear(2, 2), ValueError, "does not hold weights for this Linear"),
        (lambda trials: xs.InterpretableCNN(3, 2, 120, kernel_length=7), ValueError, "of another size are"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(network, error, said, tmp_path, weights):
    xs.save(weights, tmp_path / "it.safetensors")
    with pytest.raises(error, match=said):
        load_network(tmp_path / "it.safetensors", TRIALS, network)


def test_weights_of_a_wrapped_network_are_told_apart(tmp_path, weights):
    wrapped = {f"module.{name}": value for name, value in weights.state_dict().items()}
    safetensors.torch.save_file(wrapped, tmp_path / "it.safetensors")
    with pytest.raises(ValueError, match=r"begins with 'module\.'.*the network was wrapped.*model\.module\.state_dict"):
        load_network(tmp_path / "it.safetensors", TRIALS, build_network)


# ---- verify ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "said"), [("ok", 0, "2 looked at: 2 ok."), ("refused", 1, "2 looked at: 1 ok, 1 refused.")]
)
def test_verify_lists_what_was_looked_at(status, code, said, called, capsys, monkeypatch):
    import pandas as pd

    asked = {}

    def verify(path, *, network):
        asked.update(path=str(path), network=network)
        rows = [("seal", "receipt.json", "ok", ""), ("file", "report.html", status, "why")]
        return pd.DataFrame(rows, columns=["what", "name", "status", "detail"])

    monkeypatch.setattr(xs, "verify_receipt", verify)
    assert main(["verify", "it/receipt.json", "--network", "my_nets:build"]) == code
    assert asked == {"path": "it/receipt.json", "network": "my_nets:build"}
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [status, "file", "report.html:", "why"] and said in lines[2]


def test_threads_of_a_command_sleep_while_they_wait_unless_the_shell_says_otherwise():
    code = "import os, sys, eegxai_support.__main__; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    for given, expected in (({}, "PASSIVE False"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE False")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == expected
