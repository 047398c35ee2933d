"""Install the wheel with its core dependencies alone into a fresh environment, explain a network there, and weigh it.

`python tools/fresh_environment.py` asks the index that pip is set to, and takes minutes and 7 GB while it runs; the
weekly workflow does it. What is weighed is what torch does not bring itself, beside braindecode and what that needs.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WEIGH = """
import json, sys
from importlib.metadata import distribution
from packaging.requirements import Requirement

def closure(name, extra="", found=()):
    found = {*found, (name, extra)}
    for it in map(Requirement, distribution(name).requires or ()):
        if it.marker is None or it.marker.evaluate({"extra": extra}):
            for wanted in {(it.name, inner) for inner in ("", *it.extras)} - found:
                found |= closure(*wanted, found)
    return found

def sizes(name):
    files = {d.name: d.files for d in (distribution(it) for it, _ in closure(name))}
    return {name: sum(f.locate().stat().st_size for f in them if f.locate().exists()) for name, them in files.items()}

print(json.dumps({k: v for k, v in sizes(sys.argv[1]).items() if k not in sizes("torch")}))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "env/bin/python"
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)

        def pip(*arguments):
            subprocess.run([python, "-m", "pip", *arguments, "--disable-pip-version-check", "-q"], check=True)

        def weigh(name):
            """Return what each package weighs that `name` needs, itself among them, in bytes."""
            run = subprocess.run([python, "-c", WEIGH, name], check=True, text=True, stdout=subprocess.PIPE)
            return json.loads(run.stdout)

        pip("wheel", "--no-deps", "--wheel-dir", folder, ROOT)
        pip("install", "--no-compile", next(Path(folder).glob("*.whl")))
        subprocess.run([python, "-I", ROOT / "tests/core_only.py"], check=True, cwd=folder)
        ours = weigh("eegxai-support")
        pip("install", "--no-compile", "braindecode")
        theirs = weigh("braindecode")
    for name, sizes in {"eegxai-support": ours, "braindecode": theirs}.items():
        largest = ", ".join(f"{k} {sizes[k] / 1e6:.0f}" for k in sorted(sizes, key=sizes.get)[:-6:-1])
        print(f"{name}: {len(sizes)} packages beside torch's, {sum(sizes.values()) / 1e6:.0f} MB (of them {largest})")
    if sum(ours.values()) > sum(theirs.values()):
        sys.exit("the core weighs more than braindecode, from which it was parted to be light")


if __name__ == "__main__":
    main()
