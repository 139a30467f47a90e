"""Mosaic in feature space: generators, experts and meta model behind a common body.

Paper: none: this is an extension of this project. It goes from Mosaic (Liu et al.,
    arXiv:2505.19699), whose generators make images, to virtual features as CCVR has
    them (Luo et al., NeurIPS 2021, arXiv:2106.05001).
Algorithm: Mosaic's four stages, on features of the averaged model instead of images.
    - Rounds of FedAvg (``warmup``).
    - In one round nobody trains a whole model. Each client computes the features of its
      images once, trains a copy of the head on them (``head``) and a small generator of
      features that is told the class (``generator``), and sends both with its label
      counts: in ``clients.py``.
    - The server averages heads to class experts, weights n_kc, fuses them by Mosaic's
      meta model (``teacher``), trained on virtual features of known labels, and distils
      them into the head on virtual features (``distil``): in ``server.py``.
    - Rounds that are left are FedAvg's, at ``finetune_lr``.
Code: none but this.
Deviations: all of it is ours. What is not Mosaic's:
    - Generators are told a class, so that a virtual feature has a label. The teacher's
      logits get that label's log prior, as ``mosaic-origin`` adds the log prior of a
      client.
    - A generator has an adversarial loss and one of class moments, and no classifier.
    - Only the head learns; the body is that of the clients' average.
    - One architecture; label counts, heads and generators leave the clients without
      differential privacy.
"""

from __future__ import annotations

from fedkd.algorithms.mosaic.features.strategy import Broadcast as Broadcast
from fedkd.algorithms.mosaic.features.strategy import MosaicFeatures as MosaicFeatures
from fedkd.algorithms.mosaic.features.strategy import State as State
from fedkd.algorithms.mosaic.features.strategy import Update as Update
