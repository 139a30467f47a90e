"""What texts of others become in a format that would take parts of them for its own.

A home for each format that has no library for it here. HTML is escaped by Jinja2 and by
Python's ``html``, CSV and JSON by Python's own modules; what goes to a terminal is Rich's
``Text``, which reads no markup; matplotlib is told that no text is a formula
(:mod:`fedkd.report.figures`), and Plotly's names are made plain in ``page.js``.
"""
