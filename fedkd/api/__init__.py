"""The door for Python and notebooks: benches, runs, worlds and models by one call each.

Nothing is computed here. What is asked is put as the suite that the command line would
read, and the same functions of the harness run it, so the numbers are the same bits.
"""
