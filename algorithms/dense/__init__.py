"""DENSE: one upload of trained models, then distillation on images that they know.

Paper: Zhang, Chen, Li, Lyu, Wu, Ding, Shen, Wu, "DENSE: Data-Free One-Shot Federated
    Learning", NeurIPS 2022, arXiv:2112.12371. Its full text was not at hand; losses and
    amounts are those of the released code and of secondary sources.
Algorithm: Algorithm 1: local training, data generation, model distillation.
Code: github.com/zj-jayzhang/DENSE, commit 237c5dd
Deviations: of ``dense`` from the released code: the BatchNorm loss is computed, on real
    hooks, as a mean over clients and over each client's layers (there, hooks find no
    layer and the loss is 0, see ``dense-code``; the published sum over layers lets deep
    clients drown the labels, see ``dense-paper``); images in [0, 1] are normalised
    before a classifier sees them, because data are normalised here and are not there;
    the student is never in train mode while images are made; the generator goes on from
    one batch to the next and does not start anew; each epoch distils on some batches of
    the pool and not on all of it; the pool forgets its oldest images when full, and its
    8-bit pixels are rounded and not cut off. It is lightened for a CPU: amounts and the
    generator are smaller and the student's rate is 0.02 and not 0.005
    (``dense-published``, ``dense-paper`` and ``dense-code`` have the published values).
    Images are cropped and flipped only as the data set has it for training images.
    Clients train as the protocol says, in the README for 400 epochs. Of the form with
    several rounds: a client with the student's architecture starts from the last
    student; any other goes on from its own weights, which it keeps; pool and generator
    start anew in every round; the ensemble is that of the round's clients. The last
    student is not sent out. No label counts leave the clients.
"""

from __future__ import annotations

from fedkd.algorithms.dense.strategy import DENSE_CODE as DENSE_CODE
from fedkd.algorithms.dense.strategy import DENSE_PAPER as DENSE_PAPER
from fedkd.algorithms.dense.strategy import DENSE_PUBLISHED as DENSE_PUBLISHED
from fedkd.algorithms.dense.strategy import Dense as Dense
from fedkd.algorithms.dense.strategy import Stage as Stage
from fedkd.algorithms.dense.strategy import Start as Start
from fedkd.algorithms.dense.strategy import State as State
