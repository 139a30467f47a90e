"""DFRD's work of a round against a loop of its own, written from the equations."""

import copy

import torch
import torch.nn.functional as F

from fedkd import testing
from fedkd.algorithms.datafree import Painter
from fedkd.algorithms.dfrd.config import DFRDConfig
from fedkd.algorithms.dfrd.server import Distillation
from fedkd.ops.ensembles import LogitEnsemble
from fedkd.simulation.sides import Sides

COUNTS = torch.tensor([[30, 0, 10], [10, 20, 0]])
OPTIONS = {
    "generator": {"width": 2, "latent_size": 4, "steps": 2},
    "distil": {"steps": 2, "global_steps": 2, "batch_size": 8, "lr": 0.1},
}


def work():
    """Return the server's work with two unequal clients and an averaged generator."""
    protocol = testing.toy_protocol(clients=2)
    server = Sides(testing.toy_federation(2), protocol, 0).server()
    torch.manual_seed(0)
    members = [server.client_model(k) for k in (0, 1)]
    for k, member in enumerate(members):
        with torch.no_grad():
            member.classifier.weight.add_(torch.randn(3, 64) * (k + 1) / 10)
    now, past = (
        Painter(
            server.build("acgan-generator", latent_size=4, width=2),
            server.images,
            "classifier",
        )
        for _ in range(2)
    )
    student = server.load(server.initial)
    config = DFRDConfig.model_validate(OPTIONS)
    teachers = LogitEnsemble(members)
    return Distillation(student, teachers, COUNTS, now, config, server, averaged=past)


def divergence(teacher, student, t):
    p = (teacher / t).softmax(1)
    return (p * ((teacher / t).log_softmax(1) - (student / t).log_softmax(1))).sum(1)


def ensemble(members, tau, x, y):
    return sum(tau[k][y][:, None] * m(x) for k, m in enumerate(members))


def images(painter, z, y):
    h = z * painter.generator.embedding(y)
    return h, painter.decode(h)


def replay(stage):
    """Return student and generator after the round, trained apart from the stage."""
    student, painter, past = map(
        copy.deepcopy, (stage.student, stage.painter, stage.averaged)
    )
    members, how = stage.teachers.members, stage.config.distil
    tau = COUNTS / COUNTS.sum(0).clamp(min=1)
    p = COUNTS.sum(0).double()
    adam = torch.optim.Adam(painter.parameters(), lr=2e-4, betas=(0.5, 0.999))
    sgd = torch.optim.SGD(
        student.parameters(), lr=how.lr, momentum=0.9, weight_decay=1e-4
    )
    student.eval()
    for y in torch.multinomial(p, 16, replacement=True).view(2, 8):
        z = torch.randn(8, 4)
        for _ in range(2):
            h, x = images(painter.train(), z, y)
            ens, out = ensemble(members, tau, x, y), student(x)
            eps = (ens.argmax(1) == y) & (out.argmax(1) != y)
            gap_h = ((h[:, None] - h[None]) ** 2).mean(2)
            flat = x.flatten(1)
            gap_x = ((flat[:, None] - flat[None]) ** 2).mean(2)
            loss = F.cross_entropy(ens, y) + torch.exp(-(gap_h * gap_x).mean())
            loss = loss - (eps * divergence(ens, out, 4.0)).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        taught = []
        with torch.no_grad():
            x = images(copy.deepcopy(painter).train(), z, y)[1]
            taught.append((1.0, x, ensemble(members, tau, x, y)))
            y2 = torch.multinomial(p, 8, replacement=True)
            x = images(copy.deepcopy(past).train(), torch.randn(8, 4), y2)[1]
            taught.append((0.5, x, ensemble(members, tau, x, y2)))
        for _ in range(2):
            loss = sum(w * divergence(e, student(x), 4.0).mean() for w, x, e in taught)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
    return student, painter


def test_a_round_of_two_batches_is_that_of_the_equations():
    stage = work()
    torch.manual_seed(7)
    student, painter = replay(stage)
    torch.manual_seed(7)
    stage.run()
    for ours, theirs in ((stage.student, student), (stage.painter, painter)):
        for name, value in theirs.named_parameters():
            got = dict(ours.named_parameters())[name]
            assert torch.allclose(got, value, rtol=0, atol=1e-6), name
