"""CCVR: FedAvg, whose last layer is trained anew on virtual features at the end.

Paper: Luo, Chen, Hu, Zhang, Liang, Feng, "No Fear of Heterogeneity: Classifier
    Calibration for Federated Learning with Non-IID Data", NeurIPS 2021,
    arXiv:2106.05001.
Algorithm: Algorithm 1; the moments are Eqs. 3 to 5.
Code: none by the authors.
Deviations: see the preset.
"""

from __future__ import annotations

from fedkd.algorithms.fedavg import FedAvg
from fedkd.strategy import Preset

CCVR = Preset(
    FedAvg,
    {"calibrate": {}},
    deviations=(
        "Calibration is the last of the run's rounds, so FedAvg trains one round less "
        "than without it. All clients are asked in it, whatever the participation, as "
        "in Algorithm 1.",
        "A class that no answer of that round is of has no virtual features and no part "
        "in the softmax: its row of the last layer stays, beside others that have "
        "moved.",
        "Amounts (200 virtual features of each class, 500 steps of SGD at 0.01 with "
        "momentum 0.9) are ours, after trials on Fashion-MNIST.",
        "Where no client has a feature below 0 (after a ReLU), virtual features are set "
        "to 0 where they fall below.",
        "A covariance travels as its upper triangle, and only of classes that the client "
        "has.",
    ),
    doc="FedAvg, and CCVR's calibration (``calibrate``) in its last round.",
)
