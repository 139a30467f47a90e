"""What goes into a paper: tables for LaTeX, figures at a set width, tidy values.

================  ============================================================
module            has
================  ============================================================
``escaping``      texts for LaTeX
``latex``         the tables of a report for LaTeX
``pictures``      figures of chosen strategies, at the width of a column or page
``tidy``          one line a run and metric, as CSV
================  ============================================================
"""
