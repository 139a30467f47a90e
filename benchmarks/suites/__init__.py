"""The packaged suites: YAML files read with ``importlib.resources``."""
