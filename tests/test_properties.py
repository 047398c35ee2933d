"""Every public name has a property, or a reason why it has none."""

import inspect
import re

import test_properties_memory  # noqa: F401 - imported for what they enter in COVERED
import test_properties_networks
import test_properties_patterns  # noqa: F401
import test_properties_signals  # noqa: F401
import test_properties_statistics  # noqa: F401
from properties import COVERED

import eegxai_support as xs

RESULT = "what a function returns, whose properties are those of the function"
READS = "reads files of one known shape, unit and type; its tests compare with another reader"
TABLE = "a constant; its tests compare with where it is from"
REASONS = {
    **dict.fromkeys(("AmplitudeEffect", "Attribution", "ConceptRelevance", "GroupEffect", "GroupMap", "Maps"), RESULT),
    **dict.fromkeys(("Method", "Problem"), RESULT),
    **dict.fromkeys(("FILTER_LAYERS", "REGIONS", "SSVEP_FREQUENCIES"), TABLE),
    **dict.fromkeys(("BaselineWarning", "UnsupportedOperation"), "what is said where nothing is computed"),
    **dict.fromkeys(("fetch_ssvep", "load_bnci2014_001", "load_drowsiness", "load_eegbci", "load_p300"), READS),
    **dict.fromkeys(("load_ssvep", "load_motor_imagery", "read_components", "recorded", "verify_receipt"), READS),
    "DeepNet": "a network that needs seconds of signal; test_decoders.py computes it by hand",
    "Recording": RESULT,
    "best_device": "no numbers: a name becomes a device",
    "judge_decoder": "trains networks and fits components; test_report_judging.py compares with the report",
    "make_report": "writes a page, for minutes; test_report*.py asks for networks and recordings of many kinds",
    "read_recording": "reads files; test_any_recording.py writes them in every format, unit and rate",
    "register": "no numbers: a function gets a name, and every name of METHODS has its properties",
    "run_benchmark": "test_benchmark.py compares workers, Dask clusters and resumed runs, each of which takes seconds",
    "viz": "figures; test_viz*.py compares what they show with what they were given",
}
GIVEN = re.compile(r"Trials|Module|ndarray|Attribution|DataFrame|Epochs")
MADE = re.compile(r"Trials|ndarray|Attribution|DataFrame|float|Accuracy")


def test_every_public_name_has_a_property_or_a_reason():
    assert not COVERED.keys() & REASONS.keys()
    assert sorted(COVERED.keys() | REASONS.keys()) == sorted(xs.__all__)
    assert test_properties_networks.SAID.keys() >= xs.METHODS.keys()


def test_properties_use_what_they_speak_of():
    functions = [name for name in COVERED if inspect.isfunction(getattr(xs, name))]
    assert [n for n in functions if not any(f"xs.{n}" in source_of(test) for test in COVERED[n])] == []


def source_of(test):
    return inspect.getsource(inspect.getmodule(test))


def test_what_makes_numbers_of_numbers_is_not_excused():
    assert [name for name in REASONS if makes_numbers_of_numbers(getattr(xs, name))] == []
    assert makes_numbers_of_numbers(xs.haufe_patterns) and makes_numbers_of_numbers(xs.fit_ica) is False


def makes_numbers_of_numbers(thing):
    """Tell whether a function takes arrays, trials or a network first, and returns numbers."""
    if not inspect.isfunction(thing):
        return False
    signature = inspect.signature(thing)
    first = next(iter(signature.parameters.values()))
    takes = first.annotation is first.empty or GIVEN.search(str(first.annotation))
    return bool(takes and MADE.search(str(signature.return_annotation)))
