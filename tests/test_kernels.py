"""Kernels that are forks of a warm process are like those of a reader, and end with what started them."""

import os
import signal
import subprocess
import sys

import nbformat
import psutil
import pytest
from conftest import ROOT, wait_for
from kernels import WarmKernelManager, kernel_manager_class
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forks on Linux only")
IMPORT = "import eegxai_support"


def notebook_of(*code):
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source) for source in code]
    return nbformat.v4.new_notebook(cells=cells, metadata=kernel)


def outputs(notebook, **options):
    """Run a notebook in the kernel that is chosen for it; return what each cell printed or displayed."""
    client = NotebookClient(notebook, kernel_manager_class=kernel_manager_class(notebook), timeout=120, **options)
    client.execute(stderr=subprocess.DEVNULL)
    return [cell.outputs for cell in notebook.cells]


def test_only_notebooks_that_import_the_package_are_forked():
    assert kernel_manager_class(notebook_of("1", IMPORT)) is WarmKernelManager
    assert kernel_manager_class(notebook_of("1")) is not WarmKernelManager


def test_kernel_is_that_of_a_reader(tmp_path, monkeypatch):
    """The same names, modules' home, figures, folder, variables and number of threads, whichever way it started."""
    monkeypatch.setenv("SET_LATER", "yes")
    code = [
        "sorted(name for name in globals() if not name.startswith('_'))",
        "import os, sys\nprint(os.getcwd(), os.environ['SET_LATER'], __name__, sys.modules['__main__'].__name__)",
        "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots(figsize=(1, 1))\nfigure",
        "import torch\nprint(torch.get_num_threads())",
        "import sys\nprint('to stderr', file=sys.stderr)",
    ]
    place = {"resources": {"metadata": {"path": str(tmp_path)}}}
    forked, started = (outputs(notebook_of(*code, last), **place) for last in (IMPORT, "0;"))
    assert forked == started and "image/png" in forked[2][0].data and str(tmp_path) in forked[1][0].text


def test_kernel_that_dies_is_noticed():
    with pytest.raises(DeadKernelError):
        outputs(notebook_of(IMPORT, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"))


def test_kernel_ends_with_the_process_that_started_it(tmp_path):
    """Its own parent, the server, would outlive that process, and it the server."""
    code = f"{IMPORT}\nimport os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(600)"
    nbformat.write(notebook_of(code), tmp_path / "waits.ipynb")
    (tmp_path / "run.py").write_text(
        "import nbformat\nfrom kernels import PRELOADED, kernel_manager_class\nfrom nbclient import NotebookClient\n"
        "if __name__ == '__main__':\n"
        "    PRELOADED.clear()\n"  # what takes seconds to import is nothing to how it ends
        "    notebook = nbformat.read('waits.ipynb', as_version=4)\n"
        "    NotebookClient(notebook, kernel_manager_class=kernel_manager_class(notebook)).execute()\n"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "tools")])
    run = subprocess.Popen([sys.executable, "run.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_for(lambda: not psutil.pid_exists(int((tmp_path / "pid").read_text())))
