"""Rows of ``results.csv``: what their fields may hold, and whose rows may be joined."""
