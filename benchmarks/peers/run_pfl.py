"""FedAvg in pfl (``pip install 'pfl[pytorch]'``), as its CIFAR-10 example sets it up."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from work import Clock, Work, arguments, images, network


class Net(nn.Module):
    """The network with the loss that pfl asks for."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.body = network(work)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def loss(self, x: Tensor, y: Tensor, is_eval: bool = False) -> Tensor:
        return F.cross_entropy(self(x), y)

    def metrics(self, x: Tensor, y: Tensor) -> dict[str, Weighted]:
        return {"loss": Weighted(self.loss(x, y).item() * len(x), len(x))}


class Ticks(TrainingProcessCallback):
    """Tells the clock of each round."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):  # type: ignore[no-untyped-def]
        self.clock.tick()
        return False, Metrics()  # do not stop


def clients_of(work: Work) -> dict[int, tuple[Tensor, Tensor]]:
    """Return the images and labels of each client."""
    x, y = images(work)
    pairs = zip(x.split(work.images), y.split(work.images), strict=True)
    return dict(enumerate(pairs))


def main() -> None:
    """Run the rounds."""
    work, rounds = arguments()
    clients = clients_of(work)

    def of(user: int) -> Dataset:
        xs, ys = clients[user]
        order = torch.randperm(len(xs))[: work.steps * work.batch]
        return Dataset(raw_data=[xs[order], ys[order]], user_id=str(user))

    np.random.seed(0)
    torch.manual_seed(0)
    sampler = get_user_sampler("random", list(clients))
    data = FederatedDataset(of, sampler)
    net = Net(work)
    model = PyTorchModel(
        net,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(net.parameters(), lr=1.0),
    )
    clock = Clock()
    FederatedAveraging().run(
        backend=SimulatedBackend(training_data=data, val_data=None),
        model=model,
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=rounds,
            evaluation_frequency=10**9,
            train_cohort_size=work.sampled,
            val_cohort_size=None,
        ),
        model_train_params=NNTrainHyperParams(
            local_num_epochs=None,
            local_num_steps=work.steps,
            local_learning_rate=0.01,
            local_batch_size=work.batch,
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=1000),
        callbacks=[Ticks(clock)],
    )
    clock.report()


if __name__ == "__main__":
    main()
