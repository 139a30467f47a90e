"""Runs the cells of a suite and keeps their results whole."""
