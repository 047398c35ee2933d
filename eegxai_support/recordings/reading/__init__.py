"""Whatever recording MNE reads, to trials and what was done on the way."""

from eegxai_support.recordings.reading.recording import Recording, read_recording

__all__ = ["Recording", "read_recording"]
