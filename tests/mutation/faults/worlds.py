"""Slips in worlds beyond label skew: groups, domains, shifts, periods."""

GROUPED = "fedkd/partition/grouped.py"
HELD = "fedkd/partition/held_out.py"
FIVE = "datasets/digits_five.py"
LOOKS = "fedkd/data/looks.py"
SHIFT = "fedkd/data/shift.py"
SEARCH = "fedkd/harness/search.py"
TAKEN = "fedkd/harness/taken.py"
VALIDATION = "fedkd/partition/validation.py"
FEDERATION = "fedkd/simulation/federation.py"
OF_GROUPS = "tests/partition/test_grouped.py"
OF_FIVE = "tests/datasets/test_digits_five.py"
OF_LOOKS = "tests/data/test_looks.py"
OF_SHIFT = "tests/data/test_shift.py"
OF_PERIODS = "tests/simulation/test_periods.py"
BUILDER = "fedkd/harness/builder.py"
HELD_OUT = "tests/harness/test_worlds.py -k 'held_out or public'"
OF_PUBLIC = "tests/simulation/test_public.py"

FAULTS = [
    dict(
        name="groups: clients take the groups one after the other",
        path=GROUPED,
        old="present[np.arange(clients) % len(present)]",
        new="np.sort(present[np.arange(clients) % len(present)])",
        tests=OF_GROUPS,
    ),
    dict(
        name="groups: positions within the group count as those of all",
        path=GROUPED,
        old="lists[client] = positions[own]",
        new="lists[client] = own",
        tests=OF_GROUPS,
    ),
    dict(
        name="groups: alpha is not handed on",
        path=GROUPED,
        old="alpha=config.alpha, min_size",
        new="alpha=0.1, min_size",
        tests=OF_GROUPS,
    ),
    dict(
        name="test shards: positions within the group count as those of all",
        path=HELD,
        old="shards[client] = places[shard]",
        new="shards[client] = shard",
        tests=OF_GROUPS,
    ),
    dict(
        name="groups: a part of a set keeps the groups of the first images",
        path="fedkd/data/groups.py",
        old="self.train[train.cpu()]",
        new="self.train[: len(train)]",
        tests="tests/data/test_groups.py",
    ),
    dict(
        name="digits-five: pixels are cut off, not rounded",
        path=FIVE,
        old="place.copy_(stretched.round())",
        new="place.copy_(stretched)",
        tests=OF_FIVE,
    ),
    dict(
        name="digits-five: images leave their labels when they are stretched",
        path=FIVE,
        old="for place, piece in zip(made.split(_PIECE), x.split(_PIECE), strict=True)",
        new="for place, piece in zip(made.split(_PIECE), x.flip(0).split(_PIECE))",
        tests=OF_FIVE,
    ),
    dict(
        name="usps: labels of the file are kept",
        path="datasets/usps.py",
        old="int(float(row[0])) - 1",
        new="int(float(row[0])) % 10",
        tests=OF_FIVE,
    ),
    dict(
        name="rotation: by half of the angle",
        path=LOOKS,
        old="math.pi * strength * float(levels[0])",
        new="math.pi / 2 * strength * float(levels[0])",
        tests=OF_LOOKS,
    ),
    dict(
        name="rotation: sides of other lengths count as equal",
        path=LOOKS,
        old="-sin / wide",
        new="-sin",
        tests=OF_LOOKS,
    ),
    dict(
        name="colour: gain and offset change places",
        path=LOOKS,
        old="gain, offset = pairs",
        new="offset, gain = pairs",
        tests=OF_LOOKS,
    ),
    dict(
        name="blur: weights are not normalised",
        path=LOOKS,
        old="    weights = weights / weights.sum()\n",
        new="",
        tests=OF_LOOKS,
    ),
    dict(
        name="noise: one draw for all images",
        path=LOOKS,
        old="rng.standard_normal(tuple(x.shape), np.float32)",
        new="rng.standard_normal((1, *x.shape[1:]), np.float32)",
        tests=OF_LOOKS,
    ),
    dict(
        name="resolution: one pixel stands for its block",
        path=LOOKS,
        old='(height, width), mode="area")',
        new='(height, width), mode="nearest")',
        tests=OF_LOOKS,
    ),
    dict(
        name="shift: test images have other levels than training images",
        path=SHIFT,
        old="numpy_stream(*self._name, feature).uniform",
        new="numpy_stream(*self._name, feature, half).uniform",
        tests=OF_SHIFT,
    ),
    dict(
        name="shift: test images stay as they are",
        path=SHIFT,
        old='client.inputs(data.x_test[own], "test")',
        new="data.x_test[own]",
        tests=OF_SHIFT,
    ),
    dict(
        name="shift: the client is not in the name of the stream",
        path=SHIFT,
        old='self._name = (seed, "shift", k)',
        new='self._name = (seed, "shift", 0)',
        tests=OF_SHIFT,
    ),
    dict(
        name="concepts: labels of the test images stay",
        path=SHIFT,
        old="client.labels(data.y_test[own])",
        new="data.y_test[own]",
        tests=OF_SHIFT,
    ),
    dict(
        name="concepts: a class may keep its name",
        path=SHIFT,
        old="names[order] = np.roll(order, -1)",
        new="names = order",
        tests=OF_SHIFT,
    ),
    dict(
        name="periods: parts are positions in the shard",
        path=SHIFT,
        old="dealt.append([shard[part] for part in parts])",
        new="dealt.append(list(parts))",
        tests=OF_SHIFT,
    ),
    dict(
        name="periods: the last one comes too early",
        path=FEDERATION,
        old="round.index * len(parts) // round.total",
        new="min(round.index, len(parts) - 1)",
        tests=OF_PERIODS,
    ),
    dict(
        name="periods: a client is measured with all of its images",
        path="fedkd/simulation/measure.py",
        old="self._sides.client(k, training, round=self._round)",
        new="self._sides.client(k, training)",
        tests=OF_PERIODS,
    ),
    dict(
        name="periods: another cut is taken for the same run",
        path="fedkd/simulation/identity.py",
        old="            yield _bytes(part.indices)\n",
        new='            yield b""\n',
        tests=OF_PERIODS,
    ),
    dict(
        name="dirichlet-quantity: sizes are not filled up",
        path="fedkd/partition/dirichlet.py",
        old="    return table[:, 0], notes\n",
        new="    return sizes, notes\n",
        tests="tests/partition/test_dirichlet.py -k 'uneven or filled'",
    ),
    dict(
        name="validation: clients train on its images",
        path=VALIDATION,
        old="own[~np.isin(own, taken)]",
        new="own",
        tests="tests/partition/test_validation.py tests/harness/test_validation.py",
    ),
    dict(
        name="validation: what is missing comes from the first classes",
        path=VALIDATION,
        old='np.argsort(-np.round(exact - whole, 9), kind="stable")',
        new="np.arange(len(whole))",
        tests="tests/partition/test_validation.py",
    ),
    dict(
        name="validation: images look as nobody sees them",
        path="fedkd/harness/builder.py",
        old="tests, shift, seed, held)",
        new="tests, shift, seed)",
        tests="tests/harness/test_validation.py",
    ),
    dict(
        name="validation: each client on all of its images",
        path=FEDERATION,
        old="parts = [torch.arange(a, b) for",
        new="parts = [torch.arange(0, b) for",
        tests="tests/harness/test_validation.py",
    ),
    dict(
        name="search: the worst trial is chosen",
        path=SEARCH,
        old="sign = 1 if column.higher_is_better else -1",
        new="sign = -1 if column.higher_is_better else 1",
        tests="tests/harness/test_search.py -k best",
    ),
    dict(
        name="search: trials are measured on the test set",
        path="fedkd/suite/trials.py",
        old="grid(suite, registry, blind=True)",
        new="grid(suite, registry)",
        tests="tests/harness/test_search.py -k 'sees_no_test or best'",
    ),
    dict(
        name="search: the table runs with the values of the suite",
        path="fedkd/suite/trials.py",
        old="entries = tuple(with_values(study.entry, values) for",
        new="entries = tuple(with_values(study.entry, {}) for",
        tests="tests/harness/test_search.py -k best",
    ),
    dict(
        name="search: seeds of the table are taken",
        path="fedkd/suite/suite.py",
        old="set(search.seeds) & set(suite.seeds)",
        new="set(search.seeds) & set()",
        tests="tests/harness/test_search.py -k refused",
    ),
    dict(
        name="search: seeds of the table are taken by --chosen",
        path=TAKEN,
        old="set(tuning.seeds) & set(bench.suite.seeds)",
        new="set(tuning.seeds) & set()",
        tests="tests/harness/test_search.py -k splits_that_they",
    ),
    dict(
        name="search: its seeds join the table from an earlier call",
        path="fedkd/harness/bench.py",
        old="searches = (self.suite.search, self.taken)",
        new="searches = (self.taken,)",
        tests="tests/harness/test_search.py -k stays_out",
    ),
    dict(
        name="search: seeds of the one whose values are taken join the table",
        path="fedkd/harness/bench.py",
        old="searches = (self.suite.search, self.taken)",
        new="searches = (self.suite.search,)",
        tests="tests/harness/test_search.py -k stays_out",
    ),
    dict(
        name="search: another folder's seeds are reported with what it chose for them",
        path="fedkd/report/rows/joinable.py",
        old="sorted(of_search & set(its.seeds))",
        new="sorted(of_search & set())",
        tests="tests/commands/test_report.py -k reported_apart",
    ),
    dict(
        name="search: a choice without a searched value is taken",
        path=TAKEN,
        old="missing = study.space.keys() - one.values.keys()",
        new="missing = study.space.keys() - study.space.keys()",
        tests="tests/harness/test_search.py -k taken_or_none",
    ),
    dict(
        name="search: what is best at an end of what was tried looks as if it were not",
        path=SEARCH,
        old="found[path] = [min(numbers), max(numbers)]",
        new="pass",
        tests="tests/harness/test_search.py -k at_an_end",
    ),
    dict(
        name="public share: clients' positions are not those of the whole set",
        path=BUILDER,
        old="return split if left is None else _within(",
        new="return split if True else _within(",
        tests=HELD_OUT,
    ),
    dict(
        name="public share: a fixed split holds out what another seed would",
        path=BUILDER,
        old="held, _ = PublicData.held_out(len(data.y_train), public.share, drawn)",
        new="held, _ = PublicData.held_out(len(data.y_train), public.share, seed)",
        tests=HELD_OUT,
    ),
    dict(
        name="public share: the images are those of the first positions",
        path="fedkd/data/public.py",
        old="return cls(data.x_train[chosen], data,",
        new="return cls(data.x_train[: len(chosen)], data,",
        tests=HELD_OUT,
    ),
    dict(
        name="public share: groups are those of the whole set",
        path=BUILDER,
        old="partitioner.groups = partitioner.groups[left]",
        new="partitioner.groups = partitioner.groups[: len(left)]",
        tests="tests/harness/test_worlds.py -k own_group",
    ),
    dict(
        name="public images: clients may have them",
        path=FEDERATION,
        old="        if len(both):\n",
        new="        if False:\n",
        tests=OF_PUBLIC,
    ),
    dict(
        name="public images: clients may have them in a period",
        path=FEDERATION,
        old="        own = [client, *(periods[k] if periods else ())]\n",
        new="        own = [client]\n",
        tests=OF_PUBLIC,
    ),
]
