"""FedGen: a small generator of features, learnt by the server, guides the clients.

Paper: Zhu, Hong, Zhou, "Data-Free Knowledge Distillation for Heterogeneous Federated
    Learning", ICML 2021, arXiv:2105.10056. Its full text could not be read; what follows
    rests on the released code.
Algorithm: Algorithm 1: the server averages, and trains a generator G(eps, y) of features
    that the clients' heads take for class y, each weighted by its share of the class;
    from the second round on clients learn also that their head takes generated features
    for their label, and that their model agrees with their head on generated features of
    the same label.
Code: github.com/zhuangdizhu/FedGen, commit 67f2cd7.
Deviations: label counts are those of the clients' data; in the released code they count
    the images of the round, from 1 on. Weights of the clients' terms have no floor of
    1e-4, and act in all local steps and not in the first 20 local epochs only. The
    diversity loss is switched on, as in the released settings of MNIST. The clients'
    cross-entropies are weighted feature by feature, and the student's divergence is
    summed over classes; the released code multiplies mean cross-entropy by mean weight
    and divides the divergence by the number of classes (``fedgen-code``). Generated
    features are never negative where those of the models are not, as after a ReLU; the
    released networks have none before the head. The global head in the student's term is
    the average of this round. A client learns of the classes that the server has been
    told of so far. Adam's moments last over rounds, as in the released code. It is
    lightened: the clients' terms weigh a tenth of the published 10, which holds training
    back in short runs; ``fedgen-published`` and ``fedgen-code`` have the published ones.
    Clients train as the protocol says, in the released code for 20 steps a round. Where
    architectures differ, only heads are averaged (``share``): then there is no global
    model, and the global accuracy is the mean over the clients' own. Label counts leave
    the clients.
"""

from __future__ import annotations

from fedkd.algorithms.fedgen.strategy import FEDGEN_CODE as FEDGEN_CODE
from fedkd.algorithms.fedgen.strategy import FEDGEN_PUBLISHED as FEDGEN_PUBLISHED
from fedkd.algorithms.fedgen.strategy import Broadcast as Broadcast
from fedkd.algorithms.fedgen.strategy import FedGen as FedGen
from fedkd.algorithms.fedgen.strategy import State as State
