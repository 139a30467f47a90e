"""Robust averages: what a server may put in the place of the mean of its clients."""
