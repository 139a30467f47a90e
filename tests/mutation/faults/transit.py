"""Slips in faults of suites: who is hit, what becomes of answers, simulated time."""

TESTS = "tests/simulation/test_faults.py"
SUITES = "tests/harness/test_faults_of_suites.py"

FAULTS = [
    dict(
        name="who is hit: a share is always rounded down",
        path="fedkd/simulation/faults/plan.py",
        old="math.floor(exact + numpy_stream(*name).random())",
        new="math.floor(exact)",
        tests=TESTS,
    ),
    dict(
        name="who is hit: the same in every round",
        path="fedkd/simulation/faults/plan.py",
        old="name = (self._seed, PREFIX, kind, round.index)",
        new="name = (self._seed, PREFIX, kind)",
        tests=TESTS,
    ),
    dict(
        name="straggle: epochs are counted as one",
        path="fedkd/ops/training.py",
        old="return batches * (training.local_epochs or 1)",
        new="return batches",
        tests=TESTS,
    ),
    dict(
        name="trace: the last round of a span is left out",
        path="fedkd/simulation/faults/plan.py",
        old="first <= index + 1 <= last",
        new="first <= index + 1 < last",
        tests=TESTS,
    ),
    dict(
        name="scale: the model is scaled, not its update",
        path="fedkd/simulation/faults/corruption.py",
        old="return start + factor * (value - start)",
        new="return factor * value",
        tests=TESTS,
    ),
    dict(
        name="drop: the upload counts",
        path="fedkd/simulation/faults/transit.py",
        old='answer.record["bytes_up"] = 0',
        new="pass",
        tests=TESTS,
    ),
    dict(
        name="late: the older answer counts",
        path="fedkd/simulation/faults/transit.py",
        old="OUTDATED if late.client in newer else ARRIVED",
        new="ARRIVED",
        tests=TESTS,
    ),
    dict(
        name="late: a round too early",
        path="fedkd/simulation/faults/transit.py",
        old="Late(k, index, index + faults.late.rounds, up)",
        new="Late(k, index, index + faults.late.rounds - 1, up)",
        tests=TESTS,
    ),
    dict(
        name="late: a checkpoint forgets what is on its way",
        path="fedkd/simulation/simulator.py",
        old="self.transit.waiting = checkpoint.late",
        new="pass",
        tests=TESTS,
    ),
    dict(
        name="duplicate: the upload counts once",
        path="fedkd/simulation/faults/transit.py",
        old='kept.record["bytes_up"] *= 2',
        new="pass",
        tests=TESTS,
    ),
    dict(
        name="time: the fastest client is waited for",
        path="fedkd/simulation/faults/transit.py",
        old="max(self.seconds, took)",
        new="min(self.seconds or took, took)",
        tests=TESTS,
    ),
    dict(
        name="time: downloads take none",
        path="fedkd/simulation/faults/clock.py",
        old='record["bytes_up"] + record["bytes_down"]',
        new='record["bytes_up"]',
        tests=TESTS,
    ),
    dict(
        name="backdoor: images of the target are asked for, too",
        path="fedkd/simulation/faults/poisoning.py",
        old="others = data.y_test != how.target",
        new="others = data.y_test >= 0",
        tests=TESTS,
    ),
    dict(
        name="suite: a label is part of the hash",
        path="fedkd/suite/axes.py",
        old='if key != "label"',
        new='if key != "labels"',
        tests=SUITES,
    ),
    dict(
        name="suite: a cell without faults has another hash",
        path="fedkd/suite/grid.py",
        old="if protocol.faults != NO_FAULTS:",
        new="if protocol.faults is not None:",
        tests=SUITES,
    ),
]
