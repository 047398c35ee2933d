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
    for name, value in {
        "FOLDER": folder,
        "TABLE": tmp_path / "performance.parquet",
        "LOCK": tmp_path / "b/lock",
    }.items():
        monkeypatch.setattr(bench, name, value)
    return folder


def write(folder, name, *rows):
    """Write a benchmark that notes each of its runs."""
    lines = ["from table import end, judge", f"open({str(folder / name)!r}, 'a').write('.')", "met = []"]
    (folder / f"{name}.py").write_text("\n".join([*lines, *(f"met.append({row})" for row in rows), "end(met)", ""]))


def n_runs(folder):
    return {
        path.stem: len((folder / path.stem).read_text()) for path in sorted(folder.glob("*.py")) if path.stem != "table"
    }


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
    assert (
        table.dtypes.astype(str).to_dict().items()
        >= {"target": "float64", "tolerance": "float64", "met": "bool"}.items()
    )


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
    import signal
    import sys
    from pathlib import Path
    from benchmarks import __main__ as bench
    folder = Path(sys.argv[1])
    bench.FOLDER, bench.TABLE, bench.LOCK = folder, folder.parent / "performance.parquet", folder.parent / "b/lock"
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a program in the background is begun without
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
    exists = f"lambda: __import__('os').path.exists({str(held)!r})"
    wait = f"[__import__('time').sleep(0.05) for _ in iter({exists}, False)] != 0"
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
        else:
            assert ended(int(pid.read_text()))
    finally:
        held.unlink(missing_ok=True)
    assert ended(int(pid.read_text()))
    assert bench.main([]) == 0
    assert n_runs(folder) == {"a": 1, "b": 2, "c": 1}


def ended(pid):
    """Wait until a process is gone, and say whether it is; one that waits for its file would not go."""
    for _ in range(1200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_the_code_of_the_guide_runs(folder):
    guide = re.search(r"(?s)^## A new benchmark\n.*?```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    (folder / "guide.py").write_text(guide[1])
    bench.main([])
    table = read_recorded(bench.TABLE)  # whether it meets its target is the clock's to say
    assert list(table["case"]) == ["median"] and table["peer"][0] == f"numpy {version('numpy')}"
    assert table.attrs["runs"]["guide"]["failed"] is None


# The committed table, and the page that shows it.

BENCHMARKS = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - set(bench.MACHINERY)
PAGE = (ROOT / "book" / "performance.md").read_text()


@pytest.fixture(scope="module")
def table():
    return xs.recorded("performance")


def test_the_table_says_what_made_it(table):
    made = table.attrs
    assert made["command"] == "make bench" and set(made["versions"]) >= {
        "torch",
        "braindecode",
        "captum",
        "eegxai-support",
    }
    assert {"processor", "cores", "memory_gib", "threads"} <= set(made["machine"])
    assert set(table["benchmark"]) <= set(made["runs"]) <= BENCHMARKS
    for run in made["runs"].values():
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", run["began"])
        assert (
            re.match("[0-9a-f]{40}", run["commit"]) and run["load"] >= 0 and run["others"] >= 0 and run["seconds"] >= 0
        )


def test_every_row_of_the_table_is_judged_as_it_says(table):
    assert list(table) == list(bench.COLUMNS) and len(table)
    assert not table.duplicated(["benchmark", "case", "size", "peer"]).any()
    one = table["rounds"] == 1
    assert np.allclose((table["theirs"] / table["ours"])[one], table["ratio"][one])
    assert ((table["lowest"] <= table["ratio"]) & (table["ratio"] <= table["highest"])).all()
    fast = table["target"].isna() | (table["ratio"] >= table["target"])
    right = table["tolerance"].isna() | (table["difference"] <= table["tolerance"])
    assert (table["met"] == (fast & right)).all()


def test_the_table_has_every_benchmark(table):
    assert set(table.attrs["runs"]) == BENCHMARKS
    assert not [name for name, run in table.attrs["runs"].items() if run["failed"]]


def test_the_page_shows_the_file_and_types_no_number(table, monkeypatch):
    made_up = table.copy()
    made_up["ratio"] = 1.01 + np.arange(len(table)) / 7
    made_up["benchmark"] = ["growth", *["other"] * (len(table) - 1)]
    made_up.attrs = table.attrs | {"machine": {"processor": "a made-up one"}}
    monkeypatch.setattr(xs, "recorded", lambda name: {"performance": made_up}[name])
    shown, scope = "", {}
    for cell in re.findall(r"(?s)```{code-cell} python\n(.*?)```", PAGE):
        *lines, last = cell.rstrip().split("\n")
        exec("\n".join(lines), scope)
        result = eval(last, scope)
        shown += result.to_html()
    assert "a made-up one" in shown
    for ratio in made_up["ratio"]:
        assert f">{ratio:.3g}<" in shown
    prose = re.sub(r"(?s)\A---.*?---|```.*?```", "", PAGE)
    assert set(re.findall(r"[0-9.]*[0-9]", prose)) <= {"1", "10"}  # a ratio of 1 is the limit, 10 a straight line


def test_growth_fits_straight_lines():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import growth
    finally:
        sys.path.pop(0)
    sizes = np.array([10, 100, 1000, 4000])
    assert np.allclose(growth.slopes(sizes, 3 * sizes**1.5), 1.5)
    assert np.isclose(growth.slopes(sizes, [1, 1, 1, 16])[1], 2)
    attribution = xs.Attribution(np.zeros((2, 3, 4)), multiplier=np.zeros((2, 3, 4), "float32"), method="saliency")
    assert growth.size_of(attribution) == 2 * 3 * 4 * (8 + 4)
    assert growth.size_of(np.zeros(5)) == 40
    assert growth.size_of(pd.DataFrame({"a": np.zeros(5)})) >= 40


def test_growth_sees_the_memory_of_numpy_and_torch_above_the_data():
    program = """
        import numpy as np, torch, growth
        growth.CALLS = {"a": lambda size: lambda: np.ones(size), "b": lambda size: lambda: torch.ones(size).numpy()}
        for name, width in (("a", 8), ("b", 4)):
            time, above, result = growth.in_a_process_of_its_own(name, 10_000_000)
            assert result == width * 10_000_000
            assert result <= above <= 1.2 * result + 4e6, (name, above)
    """
    run = {"cwd": ROOT / "benchmarks", "env": os.environ | {"PYTHONPATH": str(ROOT)}, "check": True}
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], **run)


def test_a_benchmark_does_not_begin_with_the_memory_of_the_runner(folder):
    """On Linux the peak of a process begins at that of the one that starts it."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    peak = f"__import__('resource').getrusage(__import__('resource').RUSAGE_SELF).ru_maxrss * {unit}"
    write(folder, "peak", f"judge('peak', {peak}, 1e9, peer='limit', target=1)")
    assert bench.main([]) == 0
    assert own > 2e8 and read_recorded(bench.TABLE)["ours"][0] < 1e8
