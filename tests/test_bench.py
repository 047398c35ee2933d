"""`make bench`: what it does with benchmarks that meet, miss and fail, and the table that is committed."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

import eegxai_support as xs
from benchmarks import __main__ as bench
from benchmarks.table import ROWS, judge
from eegxai_support.recordings.results import read_recorded

MET = "judge('fast', [1, 2, 4], [10, 10, 20], peer='torch', target=5, size='3 × 2 × 1', difference=0, tolerance=1e-5)"
MISSED = "judge('slow', 2, 1, peer='by hand', target=1)"


def entered(tmp_path, monkeypatch, *arguments, **options):
    """Return whether a row met its target, and what it entered."""
    monkeypatch.setenv(ROWS, str(tmp_path / "rows"))
    met = judge(*arguments, **options)
    return met, json.loads((tmp_path / "rows").read_text().splitlines()[-1])


def test_a_row_is_judged_by_the_median_of_the_paired_ratios(tmp_path, monkeypatch):
    """Not by the ratio of the medians, which is 12 / 2 here."""
    met, row = entered(tmp_path, monkeypatch, "a", [1, 2, 8], [12, 10, 24], peer="torch", target=5.1)
    assert not met and not row["met"]
    assert (row["ours"], row["theirs"], row["ratio"], row["lowest"], row["highest"]) == (2, 12, 5, 3, 12)
    assert (row["peer"], row["rounds"]) == (f"torch {version('torch')}", 3)
    assert entered(tmp_path, monkeypatch, "a", [1, 2, 8], [12, 10, 24], peer="torch", target=5)[0]
    with pytest.raises(ValueError):
        judge("a", [1, 2], [1, 2, 3], peer="torch", target=1)


@pytest.mark.parametrize(
    ("given", "met"),
    [
        ({"target": None, "difference": 2e-5, "tolerance": 1e-5}, False),
        ({"target": 2, "difference": 1e-5, "tolerance": 1e-5}, True),
        ({"target": 2, "difference": np.nan, "tolerance": 1e-5}, False),
        ({"target": 2.3, "difference": 0, "tolerance": 1e-5}, False),
        ({"target": None}, True),
    ],
)
def test_a_row_meets_its_target_and_its_tolerance(tmp_path, monkeypatch, given, met):
    said, row = entered(tmp_path, monkeypatch, "a", [np.float32(1), 2], 3.0, peer="one that no package has", **given)
    assert said is met is row["met"]
    assert (row["peer"], row["theirs"], row["ratio"]) == ("one that no package has", 3, 2.25)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder of benchmarks for the runner."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "table.py").write_text((ROOT / "benchmarks" / "table.py").read_text())
    for name, value in {"FOLDER": folder, "TABLE": tmp_path / "performance.parquet", "LOCK": tmp_path / "b/lock"}.items():
        monkeypatch.setattr(bench, name, value)
    return folder


def write(folder, name, *rows):
    """Write a benchmark that notes each of its runs."""
    lines = ["from table import end, judge", f"open({str(folder / name)!r}, 'a').write('.')", "met = []"]
    (folder / f"{name}.py").write_text("\n".join([*lines, *(f"met.append({row})" for row in rows), "end(met)", ""]))


def n_runs(folder):
    return {path.stem: len((folder / path.stem).read_text()) for path in sorted(folder.glob("*.py")) if path.stem != "table"}


def test_it_goes_on_after_a_missed_target_and_an_error_and_lists_them(folder, capsys):
    write(folder, "a_error", MET, "1 / 0")
    write(folder, "b_missed", MET, MISSED)
    write(folder, "c_killed", MET, "__import__('os').kill(__import__('os').getpid(), 9)")
    write(folder, "e_check", "False")  # what it does not hand over
    write(folder, "d_met", MET)
    assert bench.main([]) == 1
    said = capsys.readouterr().out
    for line in (
        r"a_error +FAILED: its process ended with status 1 ",
        r"b_missed +MISSED slow \(",
        r"c_killed +FAILED: its process ended with status 137 ",
        r"d_met +met 1 of 1 \(",
        r"e_check +FAILED: its process ended with status 1$",
    ):
        assert re.search(f"(?m)^{line}", said)
    table = read_recorded(bench.TABLE, seal_required=True)
    assert list(zip(table["benchmark"], table["case"], table["met"], strict=True)) == [
        ("b_missed", "fast", True),
        ("b_missed", "slow", False),
        ("d_met", "fast", True),
    ]
    assert table["ratio"].to_list() == [5, 0.5, 5]
    assert table.dtypes.astype(str).to_dict().items() >= {"target": "float64", "tolerance": "float64", "met": "bool"}.items()


def test_what_failed_or_changed_runs_again_and_nothing_else(folder):
    write(folder, "changed", MET)
    write(folder, "failed", "1 / 0")
    write(folder, "missed", MISSED)
    assert bench.main([]) == 1
    first = read_recorded(bench.TABLE).attrs["runs"]
    write(folder, "changed", MET, MISSED)
    write(folder, "new", MET)
    assert bench.main([]) == 1
    assert n_runs(folder) == {"changed": 2, "failed": 2, "missed": 1, "new": 1}
    table = read_recorded(bench.TABLE)
    assert table["benchmark"].to_list() == ["changed", "changed", "missed", "new"]
    assert table.attrs["runs"]["missed"] == first["missed"]
    write(folder, "failed", MET)
    write(folder, "missed", MET)
    write(folder, "changed", MET)
    assert bench.main([]) == 0
    assert bench.main(["new"]) == 0
    assert n_runs(folder) == {"changed": 3, "failed": 3, "missed": 2, "new": 2}
    assert bench.main(["--force"]) == 0
    assert n_runs(folder) == {"changed": 4, "failed": 4, "missed": 3, "new": 3}
    (folder / "new.py").unlink()
    assert bench.main(["missed"]) == 0
    table = read_recorded(bench.TABLE)
    assert set(table["benchmark"]) == set(table.attrs["runs"]) == {"changed", "failed", "missed"}


@pytest.mark.parametrize("changed", ["machine", "versions"])
def test_numbers_of_two_machines_do_not_mix(folder, monkeypatch, capsys, changed):
    write(folder, "one", MET)
    write(folder, "two", MET)
    bench.main([])
    other = {"machine": lambda *_: {"processor": "another"}, "versions": lambda *_: {"torch": "0"}}[changed]
    monkeypatch.setattr(bench, changed, other)
    assert bench.main(["one"]) == 0
    table = read_recorded(bench.TABLE)
    assert table["benchmark"].to_list() == ["one"] and table.attrs[changed] == other()
    assert f"another {changed}" in capsys.readouterr().out


def test_an_unknown_benchmark_is_named(folder, capsys):
    write(folder, "one", MET)
    with pytest.raises(SystemExit):
        bench.main(["on"])
    assert "no benchmark is called on; there are one" in capsys.readouterr().err


def test_a_damaged_table_is_made_again(folder):
    write(folder, "one", MET)
    bench.main([])
    content = bytearray(bench.TABLE.read_bytes())
    content[len(content) // 2] ^= 1
    bench.TABLE.write_bytes(content)
    assert bench.main([]) == 0
    assert n_runs(folder) == {"one": 2}


RUNNER = """
    import sys
    from pathlib import Path
    from benchmarks import __main__ as bench
    folder = Path(sys.argv[1])
    bench.FOLDER, bench.TABLE, bench.LOCK = folder, folder.parent / "performance.parquet", folder.parent / "b/lock"
    sys.exit(bench.main([]))
"""


def start(folder):
    command = [sys.executable, "-c", textwrap.dedent(RUNNER), str(folder)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_goes_on_where_it_stopped(folder, number):
    """And what it was running is ended, or keeps others out as long as it runs."""
    write(folder, "a", MET)
    held, pid = folder / "held", folder / "pid"
    held.touch()
    wait = f"[__import__('time').sleep(0.05) for _ in iter(lambda: __import__('os').path.exists({str(held)!r}), False)] != 0"
    write(folder, "b", f"open({str(pid)!r}, 'w').write(str(__import__('os').getpid())) > 0", wait, MET)
    write(folder, "c", MET)
    process = start(folder)
    try:
        while not pid.exists() or not pid.read_text():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        process.wait()
        if number == signal.SIGKILL:
            assert bench.main([]) == 1  # refused: b is still running
            assert not (folder / "c").exists()
    finally:
        held.unlink(missing_ok=True)
    while alive(int(pid.read_text())):
        time.sleep(0.05)
    assert bench.main([]) == 0
    assert n_runs(folder) == {"a": 1, "b": 2, "c": 1}


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
