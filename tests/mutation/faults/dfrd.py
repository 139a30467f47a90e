"""Faults planted in DFRD and the operations that it stands on."""

_SERVER = "algorithms/dfrd/server.py"
_REPLAY = "tests/algorithms/test_dfrd_replay.py"


def _fault(name, path, old, new, tests=_REPLAY):
    return {"name": name, "path": path, "old": old, "new": new, "tests": tests}


FAULTS = [
    _fault(
        "dfrd: the divergence of the lesson is swapped",
        _SERVER,
        "distillation_loss(logits_BC, self.student(x), self._t)",
        "distillation_loss(self.student(x), logits_BC, self._t)",
    ),
    _fault(
        "dfrd: clients weigh alike",
        _SERVER,
        "tau_KB = self._tau_KC[:, labels_B]",
        "tau_KB = torch.full_like(self._tau_KC[:, labels_B], 0.5)",
    ),
    _fault(
        "dfrd: L_tran has the wrong sign",
        "algorithms/dfrd/losses.py",
        "return -(rows_B * useful_side",
        "return (rows_B * useful_side",
    ),
    _fault(
        "dfrd: an average learns in train mode",
        _SERVER,
        "student.train(not averaged_student)",
        "student.train()",
    ),
    _fault(
        "dfrd: betas are Adam's own",
        _SERVER,
        "BETAS = (0.5, 0.999)",
        "BETAS = (0.9, 0.999)",
    ),
    _fault("dfrd: momentum is ignored", _SERVER, "momentum=how.momentum, ", ""),
    _fault(
        "dfrd: weight decay is ignored", _SERVER, ", weight_decay=how.weight_decay", ""
    ),
    _fault(
        "dfrd: diversity is subtracted",
        _SERVER,
        'loss = loss + terms["diversity"]',
        'loss = loss - terms["diversity"]',
    ),
    _fault(
        "dfrd: optimisers start anew for every batch",
        _SERVER,
        'if self.config.variant == "dfdg":\n                adam',
        "if True:\n                adam",
    ),
]
