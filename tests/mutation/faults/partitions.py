"""Slips in how training and test images are dealt."""

DIRICHLET = "fedkd/partition/dirichlet.py"
TESTS = "tests/partition/test_dirichlet.py -k 'not thousand'"
SCHEMES = "tests/partition/test_schemes.py"
BASE = "tests/partition/test_base.py"
HELD = "tests/partition/test_held_out.py"

FAULTS = [
    dict(
        name="dirichlet: sizes are not capped",
        path=DIRICHLET,
        old="is_open=sizes < cap",
        new="is_open=sizes < np.inf",
        tests=TESTS,
    ),
    dict(
        name="dirichlet: a client at the cap is open",
        path=DIRICHLET,
        old="is_open=sizes < cap",
        new="is_open=sizes <= cap",
        tests=TESTS,
    ),
    dict(
        name="dirichlet: published cuts are rounded",
        path=DIRICHLET,
        old="        if isinstance(rng, np.random.Generator):\n            cuts",
        new="        if True:\n            cuts",
        tests=TESTS,
    ),
    dict(
        name="dirichlet: the worst try is repaired",
        path=DIRICHLET,
        old="            if lacking < least:\n",
        new="            if best is None or lacking > least:\n",
        tests=TESTS,
    ),
    dict(
        name="dirichlet: Mosaic's form shuffles after the last try only",
        path=DIRICHLET,
        old='            if config.rng == "legacy":\n                for size',
        new='            if config.rng == "nobody":\n                for size',
        tests=TESTS,
    ),
    dict(
        name="dirichlet: alpha is its inverse",
        path=DIRICHLET,
        old="gamma - rng.standard_exponential(size) / alpha",
        new="gamma - rng.standard_exponential(size) * alpha",
        tests=TESTS,
    ),
    dict(
        name="dirichlet: a gamma of shape alpha",
        path=DIRICHLET,
        old="rng.standard_gamma(alpha + 1, size)",
        new="rng.standard_gamma(alpha, size)",
        tests=TESTS,
    ),
    dict(
        name="dirichlet-balanced: what is drawn stays there",
        path=DIRICHLET,
        old="        left = left - counts[client]\n",
        new="",
        tests=TESTS,
    ),
    dict(
        name="dirichlet-balanced: sizes lose the rest",
        path=DIRICHLET,
        old="sizes = (len(labels) + np.arange(clients)) // clients",
        new="sizes = np.full(clients, len(labels) // clients)",
        tests=TESTS,
    ),
    dict(
        name="iid: samples stay in their order",
        path="fedkd/partition/schemes.py",
        old="order = self.config.stream(rng).permutation(len(labels))",
        new="order = np.arange(len(labels))",
        tests=SCHEMES,
    ),
    dict(
        name="shards: neighbours go to one client",
        path="fedkd/partition/schemes.py",
        old="random.permutation(len(shards)).reshape(clients, each)",
        new="np.arange(len(shards)).reshape(clients, each)",
        tests=SCHEMES,
    ),
    dict(
        name="classes: holders are drawn whatever they hold",
        path="fedkd/partition/schemes.py",
        old="np.lexsort((rng.random(len(present)), holders))[:each]",
        new="np.argsort(rng.random(len(present)))[:each]",
        tests=SCHEMES,
    ),
    dict(
        name="quantity: the power law grows",
        path="fedkd/partition/schemes.py",
        old="logs = -config.alpha * np.log(1 + random.permutation(clients))",
        new="logs = config.alpha * np.log(1 + random.permutation(clients))",
        tests=SCHEMES,
    ),
    dict(
        name="counts: columns are read by position",
        path="fedkd/partition/counts.py",
        old="columns = [int(name) for name in names]",
        new="columns = list(range(len(names)))",
        tests="tests/partition/test_counts.py",
    ),
    dict(
        name="counts: the table is dealt transposed",
        path="fedkd/partition/base.py",
        old="for column in counts.T])",
        new="for column in counts.T[::-1]])",
        tests=f"{BASE} tests/partition/test_counts.py",
    ),
    dict(
        name="deal: a client's samples are sorted by class",
        path="fedkd/partition/base.py",
        old="    for samples in dealt:\n        rng.shuffle(samples)\n",
        new="",
        tests=BASE,
    ),
    dict(
        name="apportion: the rest goes to the smallest remainders",
        path="fedkd/partition/base.py",
        old='np.argsort(shares - exact, kind="stable")',
        new='np.argsort(exact - shares, kind="stable")',
        tests=BASE,
    ),
    dict(
        name="repair: the smallest client gives",
        path="fedkd/partition/base.py",
        old="donor = int(np.argmax(np.where(stock > 0, sizes, -1)))",
        new="donor = int(np.argmin(np.where(stock > 0, sizes, sizes.max() + 1)))",
        tests=BASE,
    ),
    dict(
        name="test shards: another client's mix",
        path="fedkd/partition/held_out.py",
        old="for row in counts)",
        new="for row in counts[::-1])",
        tests=HELD,
    ),
    dict(
        name="test shards: the first images of a class",
        path="fedkd/partition/held_out.py",
        old="rng.permutation(places)[:number]",
        new="places[:number]",
        tests=HELD,
    ),
    dict(
        name="test shards: as large as the commonest class",
        path="fedkd/partition/held_out.py",
        old="size = (available[held] / mix[held]).min()",
        new="size = (available[held] / mix[held]).max()",
        tests=HELD,
    ),
]
