"""DFRD: data-free distillation of the clients' ensemble into the global model.

Paper: Luo, Wang, Fu, Li, Lan, Gao, "DFRD: Data-Free Robustness Distillation for
    Heterogeneous Federated Learning", NeurIPS 2023, arXiv:2309.13546. Its full text
    could not be read; what follows rests on its abstract, memory and the code of a
    relative by its first author.
Algorithm: the clients' models are aggregated; a conditional generator learns images that
    the class-weighted ensemble is sure of (fidelity), on which the ensemble is right and
    the global model is not (transferability) and which differ (diversity); the global
    model learns from the ensemble on them, and on those of an averaged copy of the
    generator, against forgetting. Class weights and label sampling follow the labels of
    the round (dynamic). Run it with ``rounds: 1`` for the one-shot form: then the
    averaged generator has no part.
Code: none by the authors at hand; github.com/lkyddd/DFDG (``horizontal/DFAD``), here
    ``dfdg``.
Deviations: of ``paper``: noise and labels of a batch serve all its steps, as in DFDG;
    both optimisers start anew in every round, the generator's weights persist; the
    global model, where it is an average of clients, is in eval mode when it learns, so
    that its BatchNorm statistics stay those of the clients' data (there, models always
    use the statistics of the batch); the generator uses the statistics of the batch in
    lessons too (``dfdg``: running ones, which many more steps have settled); the
    averaged generator starts at the generator's initial weights and is not used in the
    first round; L_div takes mean squared differences, as DFDG does: with Euclidean
    distances (``generator.diversity: norms``, as the paper is remembered), it and its
    gradient vanish in float32 from 28x28 on; T is 4, and amounts are lightened, for short
    runs on a CPU (learning rate 1e-3 for 1e-2, width 32 for 64, 5 steps of 5 for 200 of
    20): ``dfrd-published`` has those of DFDG. Where
    architectures differ (ours), the round's clients with the server's are averaged, as
    FedDF does (arXiv:2006.07242v3, Algorithm 3), and all clients teach that average; in a
    round without such a client the global model of the round before is distilled into.
    Clients of the server's architecture start from it, and any other goes on from its own
    model, which it keeps.
    ``dfdg`` is the relative's form: L_tran is KL(global || ensemble) with the global
    model detached, over the selected images only; both optimisers start anew for every
    batch.
    Label counts leave the clients.
"""

from __future__ import annotations

from fedkd.algorithms.dfrd.strategy import DFRD as DFRD
from fedkd.algorithms.dfrd.strategy import DFRD_DFDG as DFRD_DFDG
from fedkd.algorithms.dfrd.strategy import DFRD_PUBLISHED as DFRD_PUBLISHED
from fedkd.algorithms.dfrd.strategy import Broadcast as Broadcast
from fedkd.algorithms.dfrd.strategy import State as State
from fedkd.algorithms.dfrd.strategy import Update as Update
