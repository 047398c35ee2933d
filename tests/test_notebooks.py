"""Every chapter is in step with its source, declares its parameters and runs."""

import re

import jupytext
import nbformat
import papermill
import pytest
from conftest import execute_fast
from jupytext.compare import compare_notebooks


def test_pair_is_in_step(chapter):
    script, notebook = (jupytext.read(chapter.with_suffix(suffix)) for suffix in (".py", ".ipynb"))
    compare_notebooks(notebook, script, fmt="py:percent")  # raises with the difference; `make sync` mends it


def test_declares_the_parameters(chapter):
    declared = papermill.inspect_notebook(str(chapter.with_suffix(".ipynb")))
    trains = re.search(r"xs\.(build_decoder|decoder_fit)\(", chapter.read_text())
    assert {"FAST", "SEED"} | ({"DEVICE"} if trains else set()) <= set(declared)


def test_networks_go_to_the_chosen_device_and_stay_there(chapter):
    """Every network is put there when it is built, and is trained there, so that all that follows runs there too."""
    code = "".join(re.findall(r"(?m)^(?!#).*\n", chapter.read_text()))
    arguments = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"  # brackets in brackets in brackets
    calls = re.findall(rf"xs\.(?:build_decoder|train|decoder_fit){arguments}(?:\.to{arguments})?", code)
    assert len(calls) == len(re.findall(r"xs\.(?:build_decoder|train|decoder_fit)\(", code))
    for call in calls:
        assert re.search(
            r"\.to\((device|xs\.best_device\(DEVICE\))\)$" if "build_decoder" in call else r"device=(device|DEVICE)\b",
            call,
        )


def test_is_committed_without_outputs(chapter):
    for cell in nbformat.read(chapter.with_suffix(".ipynb"), as_version=4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None, cell.source


def test_runs_and_prints_nothing_but_results(chapter, executed):
    for cell in nbformat.read(executed(chapter), as_version=4).cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", f"{output.text}\nprinted by\n{cell.source}"
            assert "Warning" not in output.get("text", ""), cell.source
            # A figure or a table may be displayed; the repr of any other object would be noise under it.
            text = output.get("data", {"text/html": ""}).keys()
            assert text != {"text/plain"} or not output["data"]["text/plain"].startswith("<"), cell.source


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import time; time.sleep(600)", r"it took longer than 5 s.*EEGXAI_TIMEOUT=10\)\."),
        ("import os; os.kill(os.getpid(), 9)", r"its kernel died, .* GB are free now\)\."),
    ],
    ids=["takes too long", "kills its kernel"],
)
def test_cell_that_does_not_end_is_named(tmp_path, monkeypatch, code, reason):
    monkeypatch.setenv("EEGXAI_TIMEOUT", "5")
    cells = [nbformat.v4.new_code_cell(source) for source in ("FAST = False", f"# why\n{code}", "2")]
    cells[0].metadata["tags"] = ["parameters"]
    cells.insert(1, nbformat.v4.new_markdown_cell("# Title"))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "short.ipynb")
    said = rf"short.ipynb, code cell 3: {reason}\n    {re.escape(code)}"  # cell 3: papermill adds one of parameters
    with pytest.raises(pytest.fail.Exception, match=said):
        execute_fast(tmp_path / "short.ipynb", tmp_path / "output.ipynb")
