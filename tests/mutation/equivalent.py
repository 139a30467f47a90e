"""The faults that survive because they change no result, each with the reason."""

EQUIVALENT = {}
