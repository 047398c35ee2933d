"""What a process says of the sources that it runs. How the hash follows single changes is in test_stress.py."""

import os
import shutil
import subprocess
import sys

from conftest import ROOT

CHANGED_AFTER_IMPORT = """
import sys
from pathlib import Path
import eegxai_support as xs
path = Path(sys.argv[1])
path.write_text(path.read_text() + sys.argv[2])
from eegxai_support.provenance import package_digest
for rooms in (("simulate",), (), ("trials",)):
    print(package_digest(*rooms))
assert "torch" not in sys.modules
"""


def test_sources_that_change_between_import_and_first_call_are_neither_of_the_two(tmp_path):
    """A notebook: import the package, edit a source, train: the new hash must not stand over what the old code gave."""
    package = tmp_path / "eegxai_support"
    shutil.copytree(ROOT / "eegxai_support", package, ignore=shutil.ignore_patterns("__pycache__", "_results"))

    def digests(more):
        command = [sys.executable, "-c", CHANGED_AFTER_IMPORT, package / "simulate" / "noise.py", more]
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    # Each process writes the file; nothing and a comment change its state, but not what it says.
    edited = digests("\nNOTHING = 1\n")
    again = digests("# the same\n")
    assert [a == b for a, b in zip(edited, again, strict=True)] == [False, False, True]

    command = "from eegxai_support.provenance import package_digest as d; print(d('simulate'), d(), d('trials'))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    fresh = subprocess.run(
        [sys.executable, "-c", command], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    fresh = fresh.stdout.split()
    for under in (edited, again):
        assert [a == b for a, b in zip(fresh, under, strict=True)] == [False, False, True]
