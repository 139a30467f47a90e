"""Models stacked into one: they answer as they do one after another."""

import pytest
import torch

from fedkd import testing
from fedkd.ops.ensembles import LogitEnsemble
from fedkd.ops.stacking import Stacked, _alike, pays


def models(name, number=3):
    torch.manual_seed(0)
    federation = testing.toy_federation(models=(name,))
    built = [federation.build(name) for _ in range(number)]
    for model in built:  # statistics that differ from the initial ones
        model.train()(torch.randn(16, 1, 8, 8))
    return built


@pytest.mark.parametrize("name", ["cnn", "mlp", "lenet4", "resnet18"])
def test_stacked_models_answer_as_they_do_one_by_one(name):
    members = models(name)
    x = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        stacked, single = Stacked(members)(x), LogitEnsemble(members).each(x)
    assert single.shape == (3, 5, 3)
    torch.testing.assert_close(stacked, single, rtol=1e-4, atol=1e-5)


def test_images_get_their_gradient_and_members_do_not():
    members = models("cnn")
    gradients = []
    for how in ("stack", "loop"):
        x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        x.requires_grad_()
        LogitEnsemble(members, how=how).each(x).pow(2).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    assert all(p.grad is None for m in members for p in m.parameters())


def test_statistics_stay_as_they_are():
    members = models("cnn")
    before = [m.state_dict()["body.1.running_mean"].clone() for m in members]
    Stacked(members)(torch.randn(8, 1, 8, 8))
    after = [m.state_dict()["body.1.running_mean"] for m in members]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_on_the_cpu_stacking_does_not_pay():
    assert not pays(models("cnn"))


def test_only_models_of_one_architecture_are_alike():
    cnns, mlps = models("cnn", 2), models("mlp", 1)
    assert _alike(cnns)
    assert not _alike([*cnns, *mlps])
