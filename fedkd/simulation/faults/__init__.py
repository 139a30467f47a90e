"""Faults of a run: who is hit in which round, and what becomes of data and answers."""
