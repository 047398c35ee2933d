"""Kernels that are warm when they start: `make book` and the tests run every chapter in a copy of one process.

Most of what a chapter with FAST=True takes is imports, and they are the same in all chapters. A fork server of
multiprocessing imports them once; a kernel is a fork of it, with the namespace of any other kernel and nothing in it.
Readers start kernels as ever, and so does macOS, whose own libraries may not be used on both sides of a fork.
"""

import multiprocessing
import os
import subprocess
import sys
import threading

from ipykernel.kernelapp import IPKernelApp
from jupyter_client import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

# What most chapters load. The package comes first, which keeps what follows from warning of bars, and it loads lazily.
# None of it may open a GPU, nor start a thread that is needed: neither reaches the other side of a fork (the one thread
# there, of pyarrow's jemalloc, is not needed). What libraries read from the environment when they are imported, the
# number of threads above all, is what the server found there: it must be set before the first kernel.
PRELOADED = [
    "__main__",
    "eegxai_support",
    "ipykernel.kernelapp",
    "matplotlib.pyplot",
    "pandas.io.formats.style",
    "pyarrow.parquet",
    "scipy.signal",
    "scipy.stats",
    "sklearn.linear_model",
    "mne.viz",
    "torch._dynamo",  # the first optimiser asks for it
    "moabb.datasets",  # braindecode asks for it, and warns itself
]


def kernel_manager_class(notebook) -> type[AsyncKernelManager]:
    """Return what starts the kernel of a notebook: a fork where it imports the package, on a system that can."""
    imports = any(cell.cell_type == "code" and "import eegxai_support" in cell.source for cell in notebook.cells)
    return WarmKernelManager if imports and sys.platform == "linux" else AsyncKernelManager


class WarmKernelManager(AsyncKernelManager):
    """Starts kernels by forking."""

    async def _async_pre_start_kernel(self, **options):
        self.provisioner = WarmProvisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**options)


class Fork:
    """A process of the fork server, with as much of subprocess.Popen as a provisioner asks of its process."""

    stdin = stdout = stderr = None

    def __init__(self, function, *arguments):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.process = context.Process(target=function, args=arguments)
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """Return None while it runs, then its exit status."""
        return self.process.exitcode

    def wait(self) -> int:
        """Wait for its end and return its exit status."""
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


class WarmProvisioner(LocalProvisioner):
    """Forks where its parent class starts a program."""

    async def launch_kernel(self, cmd, **options):
        """Fork, and let the fork be the kernel."""
        words = cmd[cmd.index("-f") :]  # what is meant for the kernel, and not for Python
        self.process = Fork(serve, words, options.get("cwd", "."), options["env"], options.get("stderr"))
        self.pid = self.pgid = self.process.pid
        return self.connection_info


def serve(words: list[str], folder: str, environment: dict[str, str], stderr: int | None) -> None:
    """Be the kernel, with the folder, the variables and the stderr of the program that it stands for."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ |= environment
    if stderr == subprocess.DEVNULL:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stderr__.fileno())
    # A kernel ends itself when its parent is gone, but that is the server, which stays as long as any of its forks.
    threading.Thread(target=end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    app = IPKernelApp.instance(parent_handle=os.getppid())
    app.initialize(words)
    app.shell.enable_matplotlib("inline")  # as a kernel does when Matplotlib is imported, which it was before
    app.start()


def end_with(process) -> None:
    """End at once when another process has ended."""
    process.join()
    os._exit(1)
