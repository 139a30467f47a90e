"""One run: both sides of a federation, the loop over rounds, and what is counted."""
