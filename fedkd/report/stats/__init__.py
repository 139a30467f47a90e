"""What rows of results can be said to show: pure statistics, typed, without any text.

Pages, papers and commands are made from these; each is a frozen dataclass.

* :func:`fedkd.report.summary.summarise` gives a :class:`~fedkd.report.summary.Table` of
  one column: of every strategy and setting its values, mean, sample standard deviation
  and bootstrap interval, what is marked, and why (:class:`standings.Standing`).
* :func:`pairs.paired` and :func:`pairs.against` give a :class:`pairs.Pair`: differences
  of two strategies seed by seed, with the confidence interval of their mean and the
  number of seeds that would separate the two.
* :func:`ranks.rank` gives a :class:`ranks.Ranking` over many blocks, or the sentence that
  says why there is none.
* :func:`front.points` and :func:`front.front` give quality beside cost, and who is not
  beaten in both.
* :func:`comparison.compare` gives a :class:`comparison.Comparison` of two sets of runs.

Intervals are :class:`intervals.Interval`. No module here reads a file or draws.
"""
