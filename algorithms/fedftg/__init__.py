"""FedFTG: FedAvg whose global model is fine-tuned on hard images, without data.

Paper: Zhang, Shen, Ding, Tao, Duan, "Fine-tuning Global Model via Data-Free Knowledge
    Distillation for Non-IID Federated Learning", CVPR 2022, arXiv:2203.09249. Its full
    text could not be read; what follows rests on its abstract, the released code and
    secondary sources.
Algorithm: FedAvg; then a conditional generator looks for images on which the average and
    the clients differ (hard sample mining), with labels in the proportion in which the
    round's clients hold them (customised label sampling), and every client teaches a
    class by its share of it (class-level ensemble).
Code: github.com/ZhangLin-PKU/FedFTG (it does not run as published);
    github.com/lkyddd/DFDG (``horizontal/fedFTG``) has another form, here ``lightfed``.
Deviations: of ``paper``: the divergence is KL(local || global), where the paper is
    remembered to have the other direction; the weight of the discrepancy, the numbers of
    steps, both learning rates and the generator's width are lightened, for short runs on
    a CPU (``fedftg-published`` has the amounts of the released code); L_dis is that of
    the released code, mean squared differences of noise times mean absolute ones of
    images. ``fedftg-paper`` has that direction and the amounts of the released code.
    Of all variants: the global model is in eval mode when it is fine-tuned, so that its
    BatchNorm statistics stay those of the clients' data (the released models have group
    normalisation or always use the statistics of the batch); the generator's weights
    persist over rounds, both optimisers start anew in every round.
    In ``paper`` the generator uses the statistics of the batch in lessons too, so that
    lessons are on the images of the search; the others use running ones.
    ``official`` is the released code: the generator's divergence is the mean absolute
    difference of logits; the class's weights reach L_cls only as their mean; the
    generator steps once for each client in turn, and L_dis is divided by their number;
    the global model learns by the cross-entropy with an average of probabilities, 1/C of
    the usual size. ``lightfed``: the divergence is 1/C of the usual size, global to local
    (with the global model detached) for the generator and local to global for the global
    model, at temperature 10 without its square; L_dis takes squared differences; Adam
    starts anew for every batch.
    Label counts leave the clients.
"""

from __future__ import annotations

from fedkd.algorithms.fedftg.strategy import FEDFTG_LIGHTFED as FEDFTG_LIGHTFED
from fedkd.algorithms.fedftg.strategy import FEDFTG_OFFICIAL as FEDFTG_OFFICIAL
from fedkd.algorithms.fedftg.strategy import FEDFTG_PAPER as FEDFTG_PAPER
from fedkd.algorithms.fedftg.strategy import FEDFTG_PUBLISHED as FEDFTG_PUBLISHED
from fedkd.algorithms.fedftg.strategy import FedFTG as FedFTG
from fedkd.algorithms.fedftg.strategy import State as State
