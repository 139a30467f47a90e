"""From rows of results to tables, pages and pictures."""
