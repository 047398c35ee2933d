"""What knows a network and no decoder, training or method."""

from eegxai_support.model.arithmetic import exact, wide
from eegxai_support.model.batches import checked_batch_size, crop_view
from eegxai_support.model.devices import best_device, free_memory, is_out_of_memory
from eegxai_support.model.errors import UnsupportedOperation, needed, warn
from eegxai_support.model.fields import ReceptiveFields, fields_of, probe, receptive_fields
from eegxai_support.model.inputs import Given, extra_inputs, given, model_input, shared
from eegxai_support.model.look import NO_GRADIENT, Look, look, name_of, same
from eegxai_support.model.outputs import output_kind, probabilities
from eegxai_support.model.record import TrainingRecord, record_of
from eegxai_support.model.seeds import forked, seeded
from eegxai_support.model.simplify import simplify
from eegxai_support.model.state import (
    adapted,
    copied,
    copy_of,
    device_of,
    dtype_of,
    duplicate,
    frozen,
    is_braindecode,
    model_size,
    unwrapped,
)
from eegxai_support.model.trace import LinearStem, linear_stems

__all__ = [
    "NO_GRADIENT",
    "Given",
    "LinearStem",
    "Look",
    "ReceptiveFields",
    "TrainingRecord",
    "UnsupportedOperation",
    "adapted",
    "best_device",
    "checked_batch_size",
    "copied",
    "copy_of",
    "crop_view",
    "device_of",
    "dtype_of",
    "duplicate",
    "exact",
    "extra_inputs",
    "fields_of",
    "forked",
    "free_memory",
    "frozen",
    "given",
    "is_braindecode",
    "is_out_of_memory",
    "linear_stems",
    "look",
    "model_input",
    "model_size",
    "name_of",
    "needed",
    "output_kind",
    "probabilities",
    "probe",
    "receptive_fields",
    "record_of",
    "same",
    "seeded",
    "shared",
    "simplify",
    "unwrapped",
    "warn",
    "wide",
]
