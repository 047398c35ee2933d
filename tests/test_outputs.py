"""Logits, probabilities and log-probabilities are told apart."""

import pytest
import torch

from eegxai_support.model.outputs import output_kind

LOGITS = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 20  # confident trials among them


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "outputs, kind",
    [
        (LOGITS, "logits"),
        (LOGITS.softmax(1), "probabilities"),
        (LOGITS.log_softmax(1), "log_probabilities"),
        (torch.eye(4), "probabilities"),
        (torch.eye(4).log(), "log_probabilities"),
        (LOGITS[:, :2].sigmoid() * 0.9, "logits"),  # several labels at once, each with a probability of its own
        (torch.zeros(3, 2), "logits"),
        (LOGITS[..., None].expand(-1, -1, 7).softmax(1), "probabilities"),  # crops over time
    ],
)
def test_the_kind_of_the_outputs_is_found(outputs, kind, dtype):
    assert output_kind(outputs.to(dtype)) == kind


def test_float32_rounding_over_many_classes_is_no_other_kind():
    logits = torch.randn(20, 1000, generator=torch.Generator().manual_seed(1)) * 5
    assert output_kind(logits.softmax(1)) == "probabilities"
    assert output_kind(logits.log_softmax(1)) == "log_probabilities"


def test_every_trial_has_to_agree():
    probabilities = LOGITS.softmax(1)
    probabilities[3] *= 1.001
    assert output_kind(probabilities) == "logits"
    assert output_kind(torch.cat([LOGITS.softmax(1), LOGITS[:1]])) == "logits"


@pytest.mark.parametrize("normalised", [torch.softmax, torch.log_softmax])
def test_what_is_not_certain_counts_as_logits(normalised):
    outputs = normalised(LOGITS, 1)
    outputs[7, 0] = torch.nan
    assert output_kind(outputs) == "logits"
    assert output_kind(outputs[:0]) == "logits"
    assert output_kind(torch.ones(5, 1)) == output_kind(torch.zeros(5, 1)) == "logits"
