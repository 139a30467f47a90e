"""Fields of ``results.csv``: what kind of value each column has, and within what bounds."""
