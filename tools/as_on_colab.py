"""Run the setup cell of a chapter where the versions of `tests/colab.txt` are installed, and see that none is replaced.

`pip install -r tests/colab.txt jupytext && python tools/as_on_colab.py`, on Python 3.13; the workflow `test` does it.
What is installed is the last commit of this checkout, as if that were the public home.
"""

import re
import sys
from importlib.metadata import version

from sync import ROOT, setup_cell

PINS = dict(re.findall(r"(?m)^([\w-]+)==(\S+)$", (ROOT / "tests/colab.txt").read_text()))


def installed() -> dict[str, str]:
    return {name: version(name) for name in PINS}


if __name__ == "__main__":
    if (before := installed()) != PINS:
        sys.exit(f"not an environment like Colab's: {before}")
    exec(setup_cell(ROOT.as_uri()), {})
    if (after := installed()) != PINS:
        sys.exit(f"the setup cell replaced packages: {after}")
    print(f"installed eegxai-support {version('eegxai-support')}; unchanged: {after}")
