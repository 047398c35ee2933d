"""The guides of CONTRIBUTING.md: what stands there runs, each block by itself, and says what it claims."""

import re
import warnings

import pytest
from conftest import ROOT

import eegxai_support as xs

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
GUIDES = dict(re.findall(r"(?ms)^## (A new (?:method|network|recording))\n(.*?)(?=^## )", TEXT))


@pytest.mark.parametrize("guide", ["A new method", "A new network", "A new recording"])
def test_the_code_of_a_guide_runs(guide, capsys):
    (code,) = re.findall(r"(?s)```python\n(.*?)```", GUIDES[guide])
    known = set(xs.METHODS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            exec(compile(code, guide, "exec"), {"__name__": "guide"})
    finally:
        for name in xs.METHODS.keys() - known:
            del xs.METHODS[name]
    if "print" in code:
        assert re.match(r"accuracy 0\.\d\d \(balanced 0\.\d\d, chance 0\.\d\d", capsys.readouterr().out)


def test_names_in_the_guides_exist():
    for text in GUIDES.values():
        for name in re.findall(r"xs\.(\w+)", text):
            assert hasattr(xs, name), name
        for path in re.findall(r"`((?:eegxai_support|book)/[\w/.]+)`", text):
            assert (ROOT / path).exists(), path


def test_a_name_of_a_method_is_taken_once():
    with pytest.raises(ValueError, match="'saliency' is the name of a method of eegxai_support"):
        xs.register("saliency", reference="")(lambda problem: problem.x)
    before = xs.METHODS.copy()
    try:
        for _ in range(2):  # a cell of a notebook that is run again
            xs.register("again", reference="")(lambda problem: problem.x)
        assert xs.METHODS.keys() - before == {"again"}
    finally:
        del xs.METHODS["again"]
