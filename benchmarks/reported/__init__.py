"""Numbers of papers: YAML files, one a table; see the key ``reported`` of a suite."""
