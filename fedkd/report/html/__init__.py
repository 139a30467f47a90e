"""Results as one HTML page that needs nothing beside itself, with tables and charts.

``view`` says what is on the page, all of it from what the other pages are made of;
``charts`` and ``images`` bring numbers and pictures into the form that a browser draws;
``origin`` says where results come from and how to get them again; ``rendering`` writes.
"""
