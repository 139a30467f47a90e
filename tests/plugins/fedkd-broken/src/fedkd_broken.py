"""Imports something that is nowhere."""

import a_library_that_is_not_installed  # noqa: F401
