"""What knows a network and no decoder, training or method."""

from eegxai_support.model.arithmetic import exact, wide
from eegxai_support.model.batches import checked_batch_size, crop_view
from eegxai_support.model.devices import best_device, free_memory, is_out_of_memory
from eegxai_support.model.errors import UnsupportedOperation
from eegxai_support.model.fields import ReceptiveFields, fields_of, probe, receptive_fields
from eegxai_support.model.look import model_input
from eegxai_support.model.simplify import simplify
from eegxai_support.model.state import copied, device_of, dtype_of, frozen, is_braindecode, model_size

__all__ = [
    "ReceptiveFields",
    "UnsupportedOperation",
    "best_device",
    "checked_batch_size",
    "copied",
    "crop_view",
    "device_of",
    "dtype_of",
    "exact",
    "fields_of",
    "free_memory",
    "frozen",
    "is_braindecode",
    "is_out_of_memory",
    "model_input",
    "model_size",
    "probe",
    "receptive_fields",
    "simplify",
    "wide",
]
