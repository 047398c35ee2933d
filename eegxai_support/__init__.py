"""Explain EEG decoders and be believed: every map comes with its receipt."""
