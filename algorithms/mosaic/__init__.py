"""Mosaic: local generators, class experts, a meta model, and one distilled global model.

Paper: Liu, Gao, Meng, Sun, Wu, Jin, Chen, Wang, Zeng, "Mosaic: Data-Free Knowledge
    Distillation via Mixture-of-Experts for Heterogeneous Distributed Environments",
    arXiv:2505.19699. Its full text could not be read; what follows rests on its
    abstract, published summaries and the released code.
Algorithm: four stages (Fig. 1), each in modules and with options of its own.
    - 1 local update: in ``strategy.py``; options ``warmup``, ``finetune_lr``.
    - 2 generator optimisation: in ``generators.py``; options ``generator``.
    - 3 aggregation, class experts and meta model: in ``experts.py``, put together in
      ``teacher.py``; options ``teacher``.
    - 4 distillation: in ``distillation.py``; options ``distil``.
    - Which round does what: in ``schedule.py``. What is ours, to be skipped by a reader of
      the paper: in ``extensions.py``.
Code: github.com/Wings-Of-Disaster/Mosaic, commit a7f8b5b.
Deviations: ``mosaic`` is our reading of the method; what in it is from where.
    ``mosaic-paper`` is the form that is described, ``mosaic-code`` that of the code.
    - Paper: four stages; a generator of each client's own, trained on the converged model
      and sent once; a frozen local model as its classifier; class experts; a meta model
      trained on prototypes; distillation on the images of all generators.
    - Released code: DCGAN networks with a separate discriminator; experts as averages by
      class counts; the meta model's average and its batches of prototypes; a student in
      eval mode; a lower rate of the clients after distillation.
    - Ours: the diversity loss aims at the client's own label mix, because a uniform aim
      rewards images of classes the client never saw; entropy and inversion losses have
      weight 0.
    - Ours: prototypes are generator samples through whole experts, not features through
      foreign heads; their label is the client's own model's answer among the classes it
      holds. They are not accumulated.
    - Ours: the meta model is a small gate that starts at the class diagonal and knows
      which expert is which; its average forgets its start.
    - Ours: class 0 is kept; images lie in the range of normalised data.
    - Ours: with several architectures, clients average with those of their own, experts
      are mixtures of the clients' logits (weights n_kc), and the student is the server's
      model, which clients of other architectures never receive; after distillation they
      count in its averages as if they had sent it back unchanged.
    - Ours: with nested widths (``aggregate``), averages and experts run over those who
      hold a coordinate.
    - Ours: under partial participation only the clients of the last warm-up round give
      experts and (unless they start in their first round) generators.
    - Ours: label counts, generators and prototypes leave the clients without differential
      privacy.
"""

from __future__ import annotations

from fedkd.algorithms.mosaic.presets import MOSAIC_CODE as MOSAIC_CODE
from fedkd.algorithms.mosaic.presets import MOSAIC_CODE_CIFAR100 as MOSAIC_CODE_CIFAR100
from fedkd.algorithms.mosaic.presets import MOSAIC_ORIGIN as MOSAIC_ORIGIN
from fedkd.algorithms.mosaic.presets import MOSAIC_PAPER as MOSAIC_PAPER
from fedkd.algorithms.mosaic.strategy import Broadcast as Broadcast
from fedkd.algorithms.mosaic.strategy import Mosaic as Mosaic
from fedkd.algorithms.mosaic.strategy import State as State
from fedkd.algorithms.mosaic.strategy import Update as Update
