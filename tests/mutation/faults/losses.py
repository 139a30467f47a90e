"""Slips in losses, ensembles and averages of models that servers learn by."""

LOSSES = "fedkd/ops/distillation.py"
TESTS = "tests/ops/test_distillation.py"
ENSEMBLES = "tests/ops/test_ensembles.py"

FAULTS = [
    dict(
        name="kl: student and teacher are swapped",
        path=LOSSES,
        old="return temperature**2 * _divergence(log_t_BC, log_s_BC)",
        new="return temperature**2 * _divergence(log_s_BC, log_t_BC)",
        tests=TESTS,
    ),
    dict(
        name="kl: without the square of the temperature",
        path=LOSSES,
        old="return temperature**2 * _divergence(log_t_BC, log_s_BC)",
        new="return _divergence(log_t_BC, log_s_BC)",
        tests=TESTS,
    ),
    dict(
        name="kl: rows are summed over images",
        path=LOSSES,
        old="return temperature**2 * rows_BC.sum(dim=1)",
        new="return temperature**2 * rows_BC.sum(dim=0)",
        tests=TESTS,
    ),
    dict(
        name="kl: the mean over classes, too",
        path=LOSSES,
        old='F.kl_div(log_q_BC, log_p_BC, reduction="batchmean", log_target=True)',
        new='F.kl_div(log_q_BC, log_p_BC, reduction="none", log_target=True).mean()',
        tests=TESTS,
    ),
    dict(
        name="jensen-shannon: the mean of logits for that of probabilities",
        path=LOSSES,
        old="torch.logaddexp(log_s_BC, log_t_BC) - math.log(2)",
        new="F.log_softmax((log_s_BC + log_t_BC) / 2, dim=1)",
        tests=TESTS,
    ),
    dict(
        name="bhattacharyya: the sign is lost",
        path=LOSSES,
        old="return -torch.logsumexp(",
        new="return torch.logsumexp(",
        tests=TESTS,
    ),
    dict(
        name="losses: softmax over images",
        path=LOSSES,
        old="F.log_softmax(logits_BC, dim=1).clamp",
        new="F.log_softmax(logits_BC, dim=0).clamp",
        tests=TESTS,
    ),
    dict(
        name="diversity: the sign is lost",
        path="fedkd/ops/diversity.py",
        old="    noise_BB = noise_BB**2 / noise_BZ.shape[1]\n",
        new="    noise_BB = -(noise_BB**2) / noise_BZ.shape[1]\n",
        tests="tests/ops/test_diversity.py",
    ),
    dict(
        name="ensembles: weights per image count per class",
        path="fedkd/ops/ensembles.py",
        old='"class": ((models, classes), (models, 1, classes)),',
        new='"class": ((models, images), (models, images, 1)),',
        tests=ENSEMBLES,
    ),
    dict(
        name="ensembles: weights are not normalised",
        path="fedkd/ops/ensembles.py",
        old="weights=weights_K / weights_K.sum()",
        new="weights=weights_K",
        tests=ENSEMBLES,
    ),
    dict(
        name="ensembles: an expert speaks for another class",
        path="fedkd/ops/ensembles.py",
        old="return rest_BC.index_copy(1, chosen, spoken_EB.T)",
        new="return rest_BC.index_copy(1, chosen.flip(0), spoken_EB.T)",
        tests=ENSEMBLES,
    ),
    dict(
        name="ensembles: a class without an expert gets the most",
        path="fedkd/ops/ensembles.py",
        old="least_B = logits_EBC.amin(dim=(0, 2))",
        new="least_B = logits_EBC.amax(dim=(0, 2))",
        tests=ENSEMBLES,
    ),
    dict(
        name="average of weights: old and new shares are swapped",
        path="fedkd/ops/ema.py",
        old="        share = 1 - self._decay\n",
        new="        share = self._decay\n",
        tests="tests/ops/test_ema.py",
    ),
    dict(
        name="average of weights: the correction is not made",
        path="fedkd/ops/ema.py",
        old="if self._corrected else share",
        new="if not self._corrected else share",
        tests="tests/ops/test_ema.py",
    ),
    dict(
        name="prototypes: the mean of all classes",
        path="fedkd/ops/prototypes.py",
        old="rows_MD = features_ND[labels_N == label]",
        new="rows_MD = features_ND",
        tests="tests/ops/test_prototypes.py",
    ),
    dict(
        name="labels: iid labels are uniform",
        path="fedkd/ops/sampling.py",
        old='weights_C = counts_C if how == "iid" else counts_C > 0',
        new="weights_C = counts_C > 0",
        tests="tests/ops/test_sampling.py",
    ),
    dict(
        name="labels: a deck is not shuffled",
        path="fedkd/ops/sampling.py",
        old="return deck[torch.randperm(number)]",
        new="return deck",
        tests="tests/ops/test_sampling.py",
    ),
]
