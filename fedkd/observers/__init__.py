"""Observers: what loggers are told of runs, whole across a kill."""
