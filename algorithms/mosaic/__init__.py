"""Mosaic: local generators, class experts, a meta model, and one distilled global model.

Paper: Liu, Gao, Meng, Sun, Wu, Jin, Chen, Wang, Zeng, "Mosaic: Data-Free Knowledge
    Distillation via Mixture-of-Experts for Heterogeneous Distributed Environments",
    arXiv:2505.19699v1. Its full text could not be read; what follows rests on its
    abstract, published summaries and the released code.
Algorithm: local update, generator optimisation, aggregation, distillation (Fig. 1).
Code: github.com/Wings-Of-Disaster/Mosaic, commit a7f8b5b.
Deviations: of ``mosaic`` from the description: the diversity loss aims at the client's
    own label mix, because a uniform aim rewards images of classes the client never saw;
    the discriminator is separate (``generator.discriminator: local_model`` is the
    described form); entropy and inversion losses have weight 0 by default; prototypes
    are generator samples through whole experts, not features through foreign heads, and
    their label is the client's own model's answer among the classes it holds; the
    meta model is a small gate that starts at the class diagonal and knows which expert
    is which. Of ``mosaic`` from the released code: class 0 is kept, the classifier is
    the frozen local model, generators train once on the converged model and in the
    range of normalised data, prototypes are not accumulated, the meta model's average
    forgets its start. ``mosaic-code`` puts these back, switch by switch. With one
    architecture experts are averages of parameters, the paper's setting. With several,
    our extension: clients average with those of their own architecture, experts are
    mixtures of the clients' logits (weights n_kc), and the student is the server's
    model, which clients of other architectures never receive; after distillation they
    count in its averages as if they had sent it back unchanged. With nested widths
    (``aggregate``), averages and experts run over those who hold a coordinate. Under
    partial participation only the clients of the last warm-up round give experts and
    (unless they start in their first round) generators. Label counts, generators and
    prototypes leave the clients without differential privacy.
"""

from __future__ import annotations

from fedkd.algorithms.mosaic.strategy import MOSAIC_CODE as MOSAIC_CODE
from fedkd.algorithms.mosaic.strategy import MOSAIC_ORIGIN as MOSAIC_ORIGIN
from fedkd.algorithms.mosaic.strategy import Broadcast as Broadcast
from fedkd.algorithms.mosaic.strategy import Mosaic as Mosaic
from fedkd.algorithms.mosaic.strategy import State as State
from fedkd.algorithms.mosaic.strategy import Update as Update
