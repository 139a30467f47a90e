"""Slips in what tables claim: intervals, pairs, standings, ranks and comparisons."""

INTERVALS = "fedkd/report/stats/intervals.py"
PAIRS = "fedkd/report/stats/pairs.py"
STANDINGS = "fedkd/report/stats/standings.py"
RANKS = "fedkd/report/stats/ranks.py"
COMPARISON = "fedkd/report/stats/comparison.py"
GROUPING = "fedkd/report/grouping.py"
SUMMARY = "fedkd/report/summary.py"
MEASURE = "fedkd/simulation/measure.py"
STATS = "tests/report/test_stats.py"
COMPARED = "tests/report/test_comparison.py"

FAULTS = [
    dict(
        name="report: an interval has n degrees of freedom",
        path=INTERVALS,
        old="    half = _quantile(n - 1, level) * spread / math.sqrt(n)\n",
        new="    half = _quantile(n, level) * spread / math.sqrt(n)\n",
        tests=STATS,
    ),
    dict(
        name="report: an interval is of one run and not of the mean",
        path=INTERVALS,
        old="    half = _quantile(n - 1, level) * spread / math.sqrt(n)\n",
        new="    half = _quantile(n - 1, level) * spread\n",
        tests=STATS,
    ),
    dict(
        name="report: an interval is one-sided",
        path=INTERVALS,
        old="stdtrit(freedom, (1 + level) / 2)",
        new="stdtrit(freedom, level)",
        tests=STATS,
    ),
    dict(
        name="report: an interval below 0 does not leave it",
        path=INTERVALS,
        old="return self.low > 0 or self.high < 0",
        new="return self.low > 0",
        tests=STATS,
    ),
    dict(
        name="report: equal differences of few seeds are an interval",
        path=INTERVALS,
        old="if _look_equal(values, decimals) and n < LEAST_EQUAL:",
        new="if False:",
        tests=STATS,
    ),
    dict(
        name="report: unpaired runs are taken to have one variance",
        path=INTERVALS,
        old="ttest_ind(values, others, equal_var=False)",
        new="ttest_ind(values, others, equal_var=True)",
        tests=STATS,
    ),
    dict(
        name="report: seeds are counted to where the interval ends at 0 or before",
        path=INTERVALS,
        old="* spread / math.sqrt(n) < mean:",
        new="* spread / math.sqrt(n) < 2 * mean:",
        tests=STATS,
    ),
    dict(
        name="report: pairs are of the second above the first",
        path=PAIRS,
        old="return {seed: values[seed] - base[seed] for seed in values if seed in base}",
        new="return {seed: base[seed] - values[seed] for seed in values if seed in base}",
        tests=STATS,
    ),
    dict(
        name="report: runs of different splits are paired",
        path=PAIRS,
        old="if label != baseline and differences and setting not in apart:",
        new="if label != baseline and differences:",
        tests=STATS,
    ),
    dict(
        name="report: the best is bold whatever its interval",
        path=STANDINGS,
        old="if pair is None or pair.side != better:",
        new="if pair is None:",
        tests=STATS,
    ),
    dict(
        name="report: the second is underlined whatever its interval",
        path=STANDINGS,
        old="if len(ranked) > 2 and _pair(runs, ranked, 1, column).side == better:",
        new="if len(ranked) > 2:",
        tests=STATS,
    ),
    dict(
        name="report: the lowest is best",
        path=STANDINGS,
        old="better = 1 if column.higher_is_better else -1",
        new="better = -1",
        tests=STATS,
    ),
    dict(
        name="report: the best is bold where it is separated below the runner-up",
        path=STANDINGS,
        old="if pair is None or pair.side != better:",
        new="if pair is None or not pair.side:",
        tests=STATS,
    ),
    dict(
        name="report: who has no global model competes in global accuracy",
        path=SUMMARY,
        old="        and not entry.is_of_clients\n",
        new="",
        tests=STATS,
    ),
    dict(
        name="report: a target of local accuracy is of the global model",
        path=GROUPING,
        old='return any(name.startswith("global_") for name in column.reads)',
        new="return True",
        tests=STATS,
    ),
    dict(
        name="report: who has no global model is ranked",
        path=RANKS,
        old="if label in references or (is_of_global(column) and without_global(runs)):",
        new="if label in references:",
        tests=STATS,
    ),
    dict(
        name="report: who has no global model in one setting is ranked in none",
        path=RANKS,
        old="(is_of_global(column) and without_global(runs)):",
        new="any(without_global(r) for key, r in group(rows).items() if label in key):",
        tests=STATS,
    ),
    dict(
        name="report: who has no global model in one setting has the sign in all",
        path=GROUPING,
        old="found[label] = found.get(label, True) and without_global(runs)",
        new="found[label] = found.get(label, False) or without_global(runs)",
        tests=STATS,
    ),
    dict(
        name="report: the critical difference is wider by the root of two",
        path=RANKS,
        old="stats.studentized_range.ppf(LEVEL, k, math.inf) / math.sqrt(2)",
        new="stats.studentized_range.ppf(LEVEL, k, math.inf)",
        tests=STATS,
    ),
    dict(
        name="report: what looks equal has ranks of its own",
        path=RANKS,
        old="[round(values[label][block], column.decimals) for label in labels]",
        new="[values[label][block] for label in labels]",
        tests=STATS,
    ),
    dict(
        name="report: blocks of different splits are ranked",
        path=RANKS,
        old="if (block := (setting, row.seed)) not in torn:",
        new="if block := (setting, row.seed):",
        tests=STATS,
    ),
    dict(
        name="report: who has all ranked blocks is left out",
        path=RANKS,
        old="[label for label in values if set(blocks) <= values[label].keys()]",
        new="[label for label in values if label in labels]",
        tests=STATS,
    ),
    dict(
        name="report: a seed counts as often as it was run",
        path="fedkd/report/rows/merging.py",
        old="key = (row.precision, *(getattr",
        new="key = (row.run_id, *(getattr",
        tests="tests/report/test_results.py",
    ),
    dict(
        name="report: a run that failed is another result than one that is done",
        path="fedkd/report/rows/merging.py",
        old="min(outcome(one), outcome(other)) > 0",
        new="True",
        tests="tests/report/test_results.py",
    ),
    dict(
        name="report: a run that failed counts before one that is done",
        path="fedkd/report/rows/merging.py",
        old="    if outcome(row) > outcome(old):\n        return row\n",
        new="",
        tests="tests/report/test_results.py",
    ),
    dict(
        name="report: what Friedman's test does not find is told apart",
        path=RANKS,
        old="        if not self.is_significant:\n            return (tuple(order),)\n",
        new="",
        tests=STATS,
    ),
    dict(
        name="report: a gain is a regression",
        path=COMPARISON,
        old="return -self.difference if self.column.higher_is_better else self.difference",
        new="return self.difference",
        tests=COMPARED,
    ),
    dict(
        name="report: noise is a regression",
        path=COMPARISON,
        old='                change.verdict == "worse"\n',
        new='                change.verdict in ("worse", "noise")\n',
        tests=COMPARED,
    ),
    dict(
        name="report: a loss of other seeds counts though they are few",
        path=COMPARISON,
        old='(change.verdict == "unclear" and change.is_paired)',
        new='(change.verdict == "unclear")',
        tests=COMPARED,
    ),
    dict(
        name="report: seeds are paired on different splits",
        path=COMPARISON,
        old="return len(hashes) < 2",
        new="return True",
        tests=COMPARED,
    ),
    dict(
        name="report: a cell that lost its result is no failure",
        path=COMPARISON,
        old="return bool(self.regressions or self.lost or self.lost_seeds)",
        new="return bool(self.regressions or self.lost_seeds)",
        tests=COMPARED,
    ),
    dict(
        name="measuring: means over clients are taken for a global model's",
        path=MEASURE,
        old='"model" if "global" in models else "clients"',
        new='"model"',
        tests="tests/simulation/test_measure.py",
    ),
]
