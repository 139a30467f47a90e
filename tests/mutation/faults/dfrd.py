"""Faults planted in DFRD, FedFTG, their generators and what these stand on."""

_DFRD = "algorithms/dfrd/"
_FTG = "algorithms/fedftg/"
_SHARED = "algorithms/datafree.py"
_CONDITIONAL = "models/conditional.py"
_REPLAY = "tests/algorithms/test_dfrd_replay.py"
_FTG_REPLAY = "tests/algorithms/test_fedftg_replay.py"
_SAMPLING = "tests/ops/test_sampling.py"
_DIVERSITY = "tests/ops/test_diversity.py"
_TERMS = "tests/ops/test_terms.py"
_NETWORKS = "tests/models/test_conditional.py"


def _fault(name, path, old, new, tests):
    return {"name": name, "path": path, "old": old, "new": new, "tests": tests}


def _dfrd(name, module, old, new, cases="three"):
    tests = f"{_REPLAY} -k {cases}"
    return _fault(f"dfrd: {name}", f"{_DFRD}{module}.py", old, new, tests)


def _fedftg(name, module, old, new, cases="three"):
    tests = f"{_FTG_REPLAY} -k {cases}"
    return _fault(f"fedftg: {name}", f"{_FTG}{module}.py", old, new, tests)


FAULTS = [
    _dfrd(
        "the divergence of the lesson is swapped",
        "server",
        "distillation_loss(logits_BC, self.student(x), self._t)",
        "distillation_loss(self.student(x), logits_BC, self._t)",
    ),
    _dfrd(
        "clients weigh alike",
        "server",
        "tau_KB = self._tau_KC[:, labels_B]",
        "tau_KB = torch.full_like(self._tau_KC[:, labels_B], 0.5)",
    ),
    _dfrd(
        "L_tran has the wrong sign",
        "losses",
        "return -(rows_B * useful_side",
        "return (rows_B * useful_side",
    ),
    _dfrd(
        "L_tran of DFDG has the wrong sign",
        "losses",
        "return -(rows_B * chosen_B)",
        "return (rows_B * chosen_B)",
        "dfdg",
    ),
    _dfrd(
        "L_tran of DFDG is a mean over all images",
        "losses",
        "chosen_B.sum().clamp(min=1)",
        "len(chosen_B)",
        "dfdg",
    ),
    _dfrd(
        "L_tran of DFDG moves with the global model",
        "losses",
        "kl_rows(global_BC.detach(), ensemble_BC",
        "kl_rows(global_BC, ensemble_BC",
        "dfdg",
    ),
    _dfrd(
        "every image that the ensemble knows is useful",
        "losses",
        "right_B & (global_BC.argmax(dim=1) != labels_B)",
        "right_B",
    ),
    _dfrd(
        "the lesson has the square of the temperature",
        "losses",
        "(ensemble_BC, global_BC, temperature) / temperature**2).mean()",
        "(ensemble_BC, global_BC, temperature)).mean()",
        "options1",
    ),
    _dfrd(
        "an average learns in train mode",
        "server",
        "student.train(not averaged_student)",
        "student.train()",
    ),
    _dfrd(
        "what is no average learns in eval mode",
        "server",
        "student.train(not averaged_student)",
        "student.eval()",
        "dfdg",
    ),
    _dfrd("betas are Adam's own", "server", "BETAS = (0.5", "BETAS = (0.9"),
    _dfrd("momentum is ignored", "server", "momentum=how.momentum, ", ""),
    _dfrd("weight decay is ignored", "server", ", weight_decay=how.weight_decay", ""),
    _dfrd(
        "diversity is subtracted",
        "server",
        "(how.diversity_weight, apart)",
        "(-how.diversity_weight, apart)",
    ),
    _dfrd(
        "diversity has weight one",
        "server",
        "(how.diversity_weight, apart)",
        "(1.0, apart)",
        "options1",
    ),
    _dfrd(
        "transferability has weight one",
        "server",
        "(how.transferability_weight, moved)",
        "(1.0, moved)",
        "options1",
    ),
    _dfrd(
        "optimisers start anew for every batch",
        "server",
        'if self.config.variant == "dfdg":\n                adam',
        "if True:\n                adam",
    ),
    _dfrd(
        "optimisers of DFDG go on",
        "server",
        'if self.config.variant == "dfdg":\n                adam',
        "if False:\n                adam",
        "dfdg",
    ),
    _dfrd(
        "the averaged generator's images weigh as the others",
        "server",
        "lessons.append((weight, x",
        "lessons.append((1.0, x",
        "options0",
    ),
    _dfrd(
        "the lesson leaves the averaged generator's images out",
        "server",
        "torch.stack(terms).sum()",
        "terms[0]",
    ),
    _dfrd(
        "the averaged generator makes the images of the new one",
        "server",
        "lesson_images(self.averaged, z_BZ",
        "lesson_images(self.painter, z_BZ",
    ),
    _dfrd(
        "the new generator has the share of the averaged one",
        "strategy",
        "WeightAverage(old, self.config.distil.ema_decay)",
        "WeightAverage(old, 1 - self.config.distil.ema_decay)",
        "options1",
    ),
    _dfrd(
        "the averaged generator starts anew in every round",
        "strategy",
        "start = state.generator if state.averaged is None else state.averaged",
        "start = state.generator",
    ),
    _dfrd(
        "counts are of all images",
        "strategy",
        'dynamic = self.config.counts == "dynamic"',
        "dynamic = False",
    ),
    _dfrd(
        "counts are of the round in DFDG too",
        "strategy",
        'dynamic = self.config.counts == "dynamic"',
        "dynamic = True",
        "dfdg",
    ),
    _dfrd(
        "the model of the round before is averaged away",
        "strategy",
        'if same and self.config.start != "previous":',
        "if same:",
        "dfdg",
    ),
    _fedftg(
        "the discrepancy is minimised",
        "server",
        'terms = {"discrepancy": (-how.discrepancy_weight, gap)}',
        'terms = {"discrepancy": (how.discrepancy_weight, gap)}',
    ),
    _fedftg(
        "the released discrepancy is minimised",
        "server",
        '"discrepancy": (-how.discrepancy_weight, gap),',
        '"discrepancy": (how.discrepancy_weight, gap),',
        "official",
    ),
    _fedftg(
        "clients weigh alike in the lesson",
        "server",
        "weights_KB = self._tau_KC[:, labels_B]\n        for _ in",
        "weights_KB = torch.full_like(self._tau_KC[:, labels_B], 0.5)\n        for _ in",
    ),
    _fedftg(
        "directions are swapped",
        "losses",
        '(whole, local) if direction == "global_local" else (local, whole)',
        '(local, whole) if direction == "global_local" else (whole, local)',
    ),
    _fedftg(
        "class weights do not reach the class loss",
        "losses",
        "rows = F.cross_entropy(\n        logits_KBC.flatten(0, 1), "
        'labels_B.repeat(clients), reduction="none"\n    )',
        "rows = F.cross_entropy(\n        logits_KBC.flatten(0, 1), "
        "labels_B.repeat(clients)\n    ).expand(clients * images)",
    ),
    _fedftg(
        "the released class loss weighs each image",
        "losses",
        "(F.cross_entropy(logits_BC, labels_B) * rows_B)",
        '(F.cross_entropy(logits_BC, labels_B, reduction="none") * rows_B)',
        "official",
    ),
    _fedftg(
        "the released discrepancy has squares",
        "losses",
        ".abs().mean(dim=1)",
        ".square().mean(dim=1)",
        "official",
    ),
    _fedftg(
        "the released discrepancy moves with the client",
        "losses",
        "(global_BC - logits_BC.detach())",
        "(global_BC - logits_BC)",
        "official",
    ),
    _fedftg(
        "the released lesson averages logits",
        "losses",
        "(weights * logits_KBC.softmax(dim=2)).sum(0)",
        "(weights * logits_KBC).sum(0).softmax(dim=1)",
        "official",
    ),
    _fedftg(
        "the rates do not fall",
        "server",
        "Schedule(decay=how.lr_decay)",
        "Schedule()",
        "options1",
    ),
    _fedftg(
        "the rate of the lesson does not fall",
        "server",
        "sgd.start(self.student.parameters(), round)",
        "sgd.start(self.student.parameters())",
    ),
    _fedftg(
        "the first beta is ignored",
        "server",
        "betas=(search.beta1, 0.999)",
        "betas=(0.9, 0.999)",
        "options1",
    ),
    _fedftg("weight decay is ignored", "server", ", weight_decay=how.weight_decay", ""),
    _fedftg(
        "Adam goes on over the batches of LightFed",
        "server",
        'if self.config.variant == "lightfed":\n                searching',
        "if False:\n                searching",
        "lightfed",
    ),
    _fedftg(
        "the released diversity is not divided by the clients",
        "server",
        '"l1") / len(self.teachers.members)',
        '"l1")',
        "official",
    ),
    _fedftg(
        "LightFed's diversity has no square",
        "server",
        '"l2" if lightfed else "l1"',
        '"l1"',
        "lightfed",
    ),
    _fedftg(
        "lessons are always on the images of running statistics",
        "server",
        'as_searched = self.config.variant == "paper"',
        "as_searched = False",
    ),
    _fedftg(
        "the student learns in train mode",
        "server",
        "student.eval()",
        "student.train()",
    ),
    _fault(
        "datafree: lessons move the generator's statistics",
        _SHARED,
        "    with buffers_kept(painter):\n        images: Tensor",
        "    if True:\n        images: Tensor",
        _REPLAY,
    ),
    _fault(
        "datafree: images stay in [-1, 1]",
        _SHARED,
        'if self._output == "as_is":',
        "if True:",
        _REPLAY,
    ),
    _fault(
        "sampling: a deck is not shuffled",
        "fedkd/ops/sampling.py",
        "deck[torch.randperm(number)]",
        "deck",
        _SAMPLING,
    ),
    _fault(
        "sampling: uniform labels follow the sizes",
        "fedkd/ops/sampling.py",
        'counts_C if how == "iid" else counts_C > 0',
        "counts_C",
        _SAMPLING,
    ),
    _fault(
        "sampling: each label by itself takes no notice of sizes",
        "fedkd/ops/sampling.py",
        'counts_C if how == "iid" else counts_C > 0',
        "counts_C > 0",
        _SAMPLING,
    ),
    _fault(
        "diversity: absolute differences are squared",
        "fedkd/ops/diversity.py",
        "torch.cdist(x_BD, x_BD, p=1.0) / x_BD.shape[1]",
        "x_BB**2 / x_BD.shape[1]",
        _DIVERSITY,
    ),
    _fault(
        "diversity: noise is not divided by its length",
        "fedkd/ops/diversity.py",
        "noise_BB**2 / noise_BZ.shape[1]",
        "noise_BB**2",
        _DIVERSITY,
    ),
    _fault(
        "diversity: it rewards what is alike",
        "fedkd/ops/diversity.py",
        "x_BB = x_BB**2 / x_BD.shape[1]\n    return torch.exp(-(",
        "x_BB = x_BB**2 / x_BD.shape[1]\n    return torch.exp((",
        _DIVERSITY,
    ),
    _fault(
        "terms: shares are of terms without weights",
        "fedkd/ops/terms.py",
        "gradient_shares(weighted, x)",
        "gradient_shares({n: v for n, (_, v) in terms.items()}, x)",
        _TERMS,
    ),
    _fault(
        "terms: what stays 0 is not said",
        "fedkd/ops/terms.py",
        "        if idle:",
        "        if False:",
        _TERMS,
    ),
    _fault(
        "generators: noise is added to the label, not multiplied",
        _CONDITIONAL,
        'z_BZ * label_BZ if self._how == "mul" else z_BZ + label_BZ',
        "z_BZ + label_BZ",
        _NETWORKS,
    ),
    _fault(
        "generators: a naive label is an embedding's neighbour",
        _CONDITIONAL,
        'if self._how == "cat_naive":\n            return torch.cat([z_BZ, ',
        'if self._how == "cat_naive":\n            return torch.cat([z_BZ, 0 * ',
        _NETWORKS,
    ),
    _fault(
        "generators: upsampled images take no notice of the label",
        _CONDITIONAL,
        "self.from_label(label_BC)], dim=1)",
        "self.from_label(0 * label_BC)], dim=1)",
        _NETWORKS,
    ),
    _fault(
        "generators: upsampled images are not standardised",
        _CONDITIONAL,
        "self.layers[-1](centre(images, self.image_shape))",
        "centre(images, self.image_shape)",
        _NETWORKS,
    ),
]
