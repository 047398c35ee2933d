"""What functions say of a network and trials that they cannot explain, and the page that lists what is said."""

import warnings

import numpy as np
import pytest
import torch
from refusals import on_the_page, rows
from test_any_recording import FAULTS as READING
from test_look import AGE, NAMES, Ages, Net, X, record, trials
from test_report import FAULTS as REPORT
from test_report_command import REFUSED, key
from torch import nn

import eegxai_support as xs
from eegxai_support.model import UnsupportedOperation

SECTION = "A network and its trials"


def known(model=None, **about):
    """Return a network that says what it was trained on, or made for."""
    model = Net() if model is None else model
    for name, value in about.items():
        setattr(model, name, value)
    return model


def channels(*names):
    return [{"ch_name": name} for name in names]


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def with_nan():
    x = X.copy()
    x[1, 2, 3] = np.nan
    return x


# fault: network, what else is given, the error
FAULTS = {
    "a class, no network": (Net, {}, TypeError),
    "no network": (None, {}, TypeError),
    "one trial without its axis": (Net(), {"x": X[0]}, ValueError),
    "no trial": (Net(), {"x": X[:0]}, ValueError),
    "NaN in a trial": (Net(), {"x": with_nan()}, ValueError),
    "a list of epochs": (Net(), {"x": [xs.to_epochs(trials())]}, TypeError),
    "channels too few": (known(n_chans=3), {"x": X[:, :2]}, ValueError),
    "samples too few": (known(n_times=120), {"x": X[:, :, :60]}, ValueError),
    "channels of another cap": (known(chs_info=channels("F3", "Fz", "F4")), {"x": trials()}, ValueError),
    "channels in another order": (known(chs_info=channels(*NAMES[::-1])), {"x": trials()}, ValueError),
    "another sampling rate": (known(sfreq=250), {"x": trials()}, ValueError),
    "classes in another order": (
        known(training_record=record()), {"x": trials(class_names=("b", "a", "c"))}, ValueError
    ),
    "a class without training trials": (known(training_record=record()), {"target": 2}, ValueError),
    "weights in half precision": (Net().half(), {}, TypeError),
    "weights in two precisions": (known(linear=Net().linear.double()), {}, TypeError),
    "lazy layers that never ran": (lazy(), {}, ValueError),
    "a network that wants another form": (Net(before=lambda x: x[..., None]), {}, ValueError),
    "a batch size written into the network": (Net(before=lambda x: x.reshape(5, 3, 120)), {}, ValueError),
    "a row for each trial inside the network": (Ages(AGE), {}, ValueError),
    "a tuple as output": (Net(lambda z: (z, z)), {}, TypeError),
    "a dict as output": (Net(lambda z: {"logits": z}), {}, TypeError),
    "an array as output": (Net(lambda z: z.detach().numpy()), {}, TypeError),
    "outputs at many times": (Net(lambda z: z[:, :, None] * torch.ones(7)), {}, ValueError),
    "one output for all trials": (Net(lambda z: z.mean()), {}, ValueError),
    "decisions, no scores": (Net(lambda z: z.argmax(1)), {}, ValueError),
    "outputs without a derivative": (Net(lambda z: z.detach()), {}, UnsupportedOperation),
    "an output that is not there": (Net(), {"target": 3}, ValueError),
    "fewer targets than trials": (Net(), {"target": [0, 1]}, ValueError),
    "no target": (Net(), {"target": None}, TypeError),
    "a target function of many numbers": (Net(), {"target": lambda outputs: outputs}, ValueError),
    "further inputs too few": (Ages(), {"extra": (AGE[:3],)}, ValueError),
    "an unknown method": (Net(), {"method": "DeepLIFT"}, ValueError),
    "an unknown option": (Net(), {"steps": 3}, TypeError),
    "a baseline where none is taken": (Net(), {"baseline": X}, ValueError),
    "an unknown baseline": (Net(), {"method": "deep_lift", "baseline": "zeros"}, ValueError),
    "a baseline of another length": (Net(), {"method": "deep_lift", "baseline": X[:, :, :50]}, ValueError),
    "a batch of nothing": (Net(), {"batch_size": 0}, ValueError),
    "no layer to look at": (Net(), {"method": "grad_cam", "layer": "conv2"}, ValueError),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_explained_is_refused_with_what_to_do(fault):
    model, given, error = FAULTS[fault]
    given = {"x": X, "target": 0, "method": "gradient"} | given
    warnings.simplefilter("ignore")
    with pytest.raises(error) as raised:
        xs.attribute(model, **given)
    assert "eegxai_support" in str(raised.traceback[-1].path), f"raised in {raised.traceback[-1].path}"
    assert on_the_page(SECTION, fault, str(raised.value)), raised.value


def test_the_page_lists_every_fault_and_no_other():
    assert {name: set(table) for name, table in rows().items()} == {
        "Reading a recording": set(READING),
        "The command line": {key(arguments) for arguments, _ in REFUSED},
        "A report": set(REPORT),
        SECTION: set(FAULTS),
    }
