"""Slips in local training: batches, losses, optimisers, schedules."""

TRAIN = "fedkd/ops/training.py"
TESTS = "tests/ops/test_training.py"
SGD = "tests/ops/test_sgd.py"
OPTIMISERS = "tests/ops/test_optimisers.py"
SCHEDULES = "tests/ops/test_schedules.py"
IMAGES = "fedkd/data/images.py"
BATCHES = "tests/data/test_images.py"
PARTY = "tests/test_party.py"
REPLAY = "tests/algorithms/test_replay_averages.py -k 'test_fedavg and not with'"

FAULTS = [
    dict(
        name="training: in eval mode",
        path=TRAIN,
        old="    model.train()\n    total, pulled",
        new="    model.eval()\n    total, pulled",
        tests=REPLAY,
    ),
    dict(
        name="training: frozen parameters are trained",
        path=TRAIN,
        old="how.start(p for p in model.parameters() if p.requires_grad)",
        new="how.start(p.requires_grad_() for p in model.parameters())",
        tests=f"{TESTS} tests/algorithms/test_fedrs.py",
    ),
    dict(
        name="training: the penalty is subtracted",
        path=TRAIN,
        old="whole = value + term",
        new="whole = value - term",
        tests=TESTS,
    ),
    dict(
        name="training: the loss that is reported has the penalty in it",
        path=TRAIN,
        old="total += value.detach()",
        new="total += whole.detach()",
        tests=TESTS,
    ),
    dict(
        name="training: the loss that is reported is a sum",
        path=TRAIN,
        old="mean = total / max(steps, 1)",
        new="mean = total",
        tests=TESTS,
    ),
    dict(
        name="training: no gradient is clipped",
        path=TRAIN,
        old="stepper.step(whole, training.clip_norm, hook)",
        new="stepper.step(whole, None, hook)",
        tests=TESTS,
    ),
    dict(
        name="training: the hook on gradients is not called",
        path=TRAIN,
        old="stepper.step(whole, training.clip_norm, hook)",
        new="stepper.step(whole, training.clip_norm)",
        tests=TESTS,
    ),
    dict(
        name="training: momentum is left out",
        path=TRAIN,
        old="momentum=self.momentum, weight_decay=self.weight_decay",
        new="weight_decay=self.weight_decay",
        tests=TESTS,
    ),
    dict(
        name="training: weight decay is left out",
        path=TRAIN,
        old="momentum=self.momentum, weight_decay=self.weight_decay",
        new="momentum=self.momentum",
        tests=TESTS,
    ),
    dict(
        name="training: momentum and weight decay are swapped",
        path=TRAIN,
        old="momentum=self.momentum, weight_decay=self.weight_decay",
        new="momentum=self.weight_decay, weight_decay=self.momentum",
        tests=TESTS,
    ),
    dict(
        name="training: the rate stays that of round 0",
        path=TRAIN,
        old='update={"lr": schedule.rate(self.lr, index)}',
        new='update={"lr": schedule.rate(self.lr, 0)}',
        tests=TESTS,
    ),
    dict(
        name="training: the rate is a round ahead",
        path="fedkd/simulation/turns.py",
        old="self.sides.protocol.training.at_round(round.index)",
        new="self.sides.protocol.training.at_round(round.index + 1)",
        tests=REPLAY,
    ),
    dict(
        name="training: images are those of a batch, not of all steps",
        path=TRAIN,
        old="        examples += len(y)\n",
        new="        examples = len(y)\n",
        tests=TESTS,
    ),
    dict(
        name="training: steps and epochs are swapped",
        path=TRAIN,
        old="steps=training.local_steps,\n        epochs=training.local_epochs,",
        new="steps=training.local_epochs,\n        epochs=training.local_steps,",
        tests=TESTS,
    ),
    dict(
        name="training: the option drop_last does nothing",
        path=TRAIN,
        old="        drop_last=training.drop_last,\n",
        new="",
        tests=TESTS + " -k as_the_settings_say",
    ),
    dict(
        name="training: the option augment does nothing",
        path=TRAIN,
        old="        augment=training.augment,\n",
        new="",
        tests=TESTS + " -k as_the_settings_say",
    ),
    dict(
        name="training: a client's own settings are not heeded",
        path="fedkd/party.py",
        old="settings = training or self.training",
        new="settings = self.training or training",
        tests=PARTY,
    ),
    dict(
        name="sgd: up the gradient",
        path="fedkd/ops/sgd.py",
        old="values, grads, alpha=-self.lr",
        new="values, grads, alpha=self.lr",
        tests=SGD,
    ),
    dict(
        name="sgd: weight decay after momentum",
        path="fedkd/ops/sgd.py",
        old=(
            "        if self._decay:\n"
            "            grads = torch._foreach_add(grads, values, alpha=self._decay)\n"
            "        if self._momentum:\n"
            "            grads = self._moved([i for i, _ in used], grads)\n"
        ),
        new=(
            "        if self._momentum:\n"
            "            grads = self._moved([i for i, _ in used], grads)\n"
            "        if self._decay:\n"
            "            grads = torch._foreach_add(grads, values, alpha=self._decay)\n"
        ),
        tests=SGD,
    ),
    dict(
        name="sgd: momentum is dampened",
        path="fedkd/ops/sgd.py",
        old="torch._foreach_add_(kept, [g for _, g in old])",
        new="torch._foreach_add_(kept, [g for _, g in old], alpha=1 - self._momentum)",
        tests=SGD,
    ),
    dict(
        name="optimisers: gradients add up over steps",
        path="fedkd/ops/optimisers.py",
        old="        self.zero_grad()\n        loss.backward()",
        new="        loss.backward()",
        tests=OPTIMISERS,
    ),
    dict(
        name="optimisers: clipping comes before the hook",
        path="fedkd/ops/optimisers.py",
        old=(
            "        if gradient is not None:\n"
            "            gradient()\n"
            "        if clip_norm is not None:\n"
            "            nn.utils.clip_grad_norm_(self.parameters, clip_norm)\n"
        ),
        new=(
            "        if clip_norm is not None:\n"
            "            nn.utils.clip_grad_norm_(self.parameters, clip_norm)\n"
            "        if gradient is not None:\n"
            "            gradient()\n"
        ),
        tests=f"{OPTIMISERS} {TESTS}",
    ),
    dict(
        name="optimisers: each value is clipped, not the norm",
        path="fedkd/ops/optimisers.py",
        old="nn.utils.clip_grad_norm_(self.parameters, clip_norm)",
        new="nn.utils.clip_grad_value_(self.parameters, clip_norm)",
        tests=f"{OPTIMISERS} {TESTS}",
    ),
    dict(
        name="optimisers: a schedule by steps stands still",
        path="fedkd/ops/optimisers.py",
        old='self._per_step = how.schedule.per == "step"',
        new='self._per_step = how.schedule.per == "round"',
        tests=OPTIMISERS,
    ),
    dict(
        name="optimisers: a schedule starts at 0 whatever the time",
        path="fedkd/ops/optimisers.py",
        old="how.schedule.course(how.lr, time)",
        new="how.schedule.course(how.lr)",
        tests=OPTIMISERS,
    ),
    dict(
        name="optimisers: the rate moves before the first step",
        path="fedkd/ops/optimisers.py",
        old=(
            "        self._descend()\n"
            "        if self._per_step:\n"
            "            self.advance()\n"
        ),
        new=(
            "        if self._per_step:\n"
            "            self.advance()\n"
            "        self._descend()\n"
        ),
        tests=OPTIMISERS,
    ),
    dict(
        name="optimisers: Adam has no weight decay",
        path="fedkd/ops/optimisers.py",
        old="weight_decay=self._how.weight_decay,",
        new="weight_decay=0.0,",
        tests=OPTIMISERS,
    ),
    dict(
        name="optimisers: Adam's betas are those of torch",
        path="fedkd/ops/optimisers.py",
        old="beta1, beta2 = self._how.betas",
        new="beta1, beta2 = 0.9, 0.999",
        tests=OPTIMISERS,
    ),
    dict(
        name="optimisers: Adam does not follow the schedule",
        path="fedkd/ops/optimisers.py",
        old="            lr=self.lr,\n",
        new="            lr=self._how.lr,\n",
        tests=OPTIMISERS,
    ),
    dict(
        name="optimisers: SGD's momentum is not restored",
        path="fedkd/ops/optimisers.py",
        old="i: value.to(self.parameters[i], copy=True) for i, value in places.items()",
        new="i: value.to(self.parameters[i], copy=True) for i, value in {}.items()",
        tests=OPTIMISERS,
    ),
    dict(
        name="schedule: decay is a round ahead",
        path="fedkd/ops/schedules.py",
        old="return base * self.decay**time",
        new="return base * self.decay ** (time + 1)",
        tests=SCHEDULES,
    ),
    dict(
        name="schedule: a rate takes over a round late",
        path="fedkd/ops/schedules.py",
        old="if first <= time]",
        new="if first < time]",
        tests=f"{SCHEDULES} {TESTS}",
    ),
    dict(
        name="schedule: the earliest rate stays",
        path="fedkd/ops/schedules.py",
        old="self.rates[max(started)]",
        new="self.rates[min(started)]",
        tests=f"{SCHEDULES} {TESTS}",
    ),
    dict(
        name="schedule: the cosine rises",
        path="fedkd/ops/schedules.py",
        old="above = 1 + math.cos(math.pi * t / total)",
        new="above = 1 - math.cos(math.pi * t / total)",
        tests=SCHEDULES,
    ),
    dict(
        name="schedule: the cosine begins again",
        path="fedkd/ops/schedules.py",
        old="        yield 0.0\n",
        new="        yield lr\n",
        tests=SCHEDULES,
    ),
    dict(
        name="batches: every pass has the order of the split",
        path=IMAGES,
        old="self.indices[torch.randperm(number).to(self.device, non_blocking=True)]",
        new="self.indices[torch.arange(number).to(self.device, non_blocking=True)]",
        tests=BATCHES,
    ),
    dict(
        name="batches: one step more than asked for",
        path=IMAGES,
        old="if steps is not None and done >= steps:\n                    return",
        new="if steps is not None and done > steps:\n                    return",
        tests=f"{BATCHES} {TESTS}",
    ),
    dict(
        name="batches: a last batch of one image stays",
        path=IMAGES,
        old='(drop_last == "singleton" and short == 1)',
        new='(drop_last == "singleton" and short == 0)',
        tests=BATCHES,
    ),
    dict(
        name="batches: images of a batch have the next one's labels",
        path=IMAGES,
        old="return x, self._source.y_train[draw.chosen]",
        new="return x, self._source.y_train[draw.chosen.roll(1)]",
        tests=BATCHES,
    ),
    dict(
        name="batches: images are not normalised",
        path=IMAGES,
        old="x = self._normalise(x)",
        new="x = x / 255",
        tests=BATCHES,
    ),
    dict(
        name="batches: the mean is added",
        path=IMAGES,
        old="shift = (-centre / spread)",
        new="shift = (centre / spread)",
        tests=BATCHES,
    ),
    dict(
        name="batches: flips are up and down",
        path=IMAGES,
        old="x.flip(-1)",
        new="x.flip(-2)",
        tests=BATCHES,
    ),
]
