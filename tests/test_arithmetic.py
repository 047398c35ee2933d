"""`exact`: IEEE float32 inside, everything as it was outside."""

import itertools
import threading

import pytest
import torch
from torch import nn

from eegxai_support.model import exact, wide

BACKENDS = torch.backends
SETTINGS = {
    "all": BACKENDS,
    "cudnn": BACKENDS.cudnn,
    "convolutions on a GPU": BACKENDS.cudnn.conv,
    "recurrent layers on a GPU": BACKENDS.cudnn.rnn,
    "products on a GPU": BACKENDS.cuda.matmul,
    "convolutions on a CPU": BACKENDS.mkldnn.conv,
    "recurrent layers on a CPU": BACKENDS.mkldnn.rnn,
    "products on a CPU": BACKENDS.mkldnn.matmul,
}


def precisions():
    return {name: setting.fp32_precision for name, setting in SETTINGS.items()}


def flags():
    """What torch's older interface says, or that it refuses to say."""
    said = []
    for read in (lambda: BACKENDS.cudnn.allow_tf32, torch.get_float32_matmul_precision):
        try:
            said.append(read())
        except RuntimeError:
            said.append("contradiction")
    return precisions(), said, BACKENDS.cudnn.enabled


@pytest.fixture(autouse=True)
def settings_restored():
    before, legacy = precisions(), (BACKENDS.cudnn.allow_tf32, torch.get_float32_matmul_precision())
    yield
    BACKENDS.cudnn.allow_tf32 = legacy[0]
    torch.set_float32_matmul_precision(legacy[1])
    for name, setting in SETTINGS.items():
        setting.fp32_precision = before[name]


def set_tf32_everywhere():
    for setting in SETTINGS.values():
        setting.fp32_precision = "tf32"


WAYS_TO_ROUND = {
    "torch's defaults": lambda: None,
    "one setting for all": lambda: setattr(BACKENDS, "fp32_precision", "tf32"),
    "bfloat16 for all": lambda: setattr(BACKENDS, "fp32_precision", "bf16"),
    "one for cuDNN": lambda: setattr(BACKENDS.cudnn, "fp32_precision", "tf32"),
    "one for an operation": lambda: setattr(BACKENDS.mkldnn.conv, "fp32_precision", "bf16"),
    "each operation": set_tf32_everywhere,
    "products, high": lambda: torch.set_float32_matmul_precision("high"),
    "products, medium": lambda: torch.set_float32_matmul_precision("medium"),
    "the old flag off": lambda: setattr(BACKENDS.cudnn, "allow_tf32", False),
    "both interfaces at odds": lambda: setattr(BACKENDS.cudnn.conv, "fp32_precision", "ieee"),
}


@pytest.mark.parametrize("way", WAYS_TO_ROUND)
def test_float32_is_ieee_inside_and_as_it_was_afterwards(way):
    WAYS_TO_ROUND[way]()
    before = flags()
    with pytest.raises(ZeroDivisionError), exact():
        assert set(precisions().values()) == {"ieee"}
        raise ZeroDivisionError
    assert flags() == before


@pytest.mark.parametrize("before, after", [("none", "tf32"), ("tf32", "none"), ("bf16", "ieee")])
def test_what_follows_the_setting_for_all_follows_it_afterwards(before, after):
    BACKENDS.fp32_precision = before
    with exact():
        pass
    BACKENDS.fp32_precision = after
    followers = ("products on a GPU", "convolutions on a CPU", "recurrent layers on a CPU", "products on a CPU")
    assert {SETTINGS[name].fp32_precision for name in followers} == {after}


@pytest.mark.parametrize("way", ["torch's defaults", "products, high", "products, medium", "the old flag off"])
def test_a_network_may_read_the_old_flags_inside(way):
    WAYS_TO_ROUND[way]()
    with exact(), BACKENDS.cudnn.flags(enabled=False, allow_tf32=False):
        assert not BACKENDS.cudnn.allow_tf32
        assert not BACKENDS.cuda.matmul.allow_tf32


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_the_last_of_several_threads_restores(order):
    before, inside = flags(), []
    left = [threading.Event() for _ in order]
    entered = threading.Barrier(len(order) + 1)

    def use(wait):
        with exact():
            entered.wait()
            wait.wait()
            inside.append(precisions())

    threads = [threading.Thread(target=use, args=(event,)) for event in left]
    for thread in threads:
        thread.start()
    entered.wait()
    for n, index in enumerate(order):
        assert set(precisions().values()) == {"ieee"}, n
        left[index].set()
        threads[index].join()
    assert flags() == before
    assert all(set(each.values()) == {"ieee"} for each in inside)


def test_contexts_nest():
    before, model = flags(), nn.GRU(2, 2)
    with exact(model):
        with exact():
            pass
        assert set(precisions().values()) == {"ieee"}
        assert not BACKENDS.cudnn.enabled
    assert flags() == before


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_cudnn_is_off_for_recurrent_layers_under_gradients(layer):
    model = nn.Sequential(nn.Sequential(layer(2, 2)))
    with exact(model):
        assert not BACKENDS.cudnn.enabled
    with torch.no_grad(), exact(model):
        assert BACKENDS.cudnn.enabled
    with exact(nn.Conv1d(1, 1, 1)), exact():
        assert BACKENDS.cudnn.enabled
    assert BACKENDS.cudnn.enabled


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_around_does_not_round(dtype):
    a, b = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype):
        assert (a @ b).dtype == dtype
        with exact(nn.Linear(2, 2)):
            assert (a @ b).dtype == torch.float32
            torch.testing.assert_close(wide(a @ b), wide(a) @ wide(b), rtol=0, atol=1e-5)
        assert (a @ b).dtype == dtype


def test_a_model_on_a_device_without_autocast_is_taken():
    with exact(nn.Linear(2, 2, device="meta")):
        pass


def test_wide_is_double_precision_on_the_cpu():
    x = torch.tensor([1e8, 1.0, -1e8], dtype=torch.float32)
    assert wide(x).dtype == torch.float64
    assert wide(x).sum() == 1
