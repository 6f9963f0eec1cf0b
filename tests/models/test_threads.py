import pytest
import torch
from torch.nn.functional import l1_loss

import infoprobe as ip
from infoprobe.models.threads import suitable_threads


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_within(model, shape, batch_size=128):
    x = torch.rand(2, *shape)
    with suitable_threads(model, lambda x: l1_loss(model(x), x), x, batch_size):
        return torch.get_num_threads()


def test_small_layers_run_on_one_thread_and_large_ones_on_all(two_threads):
    small = ip.models.MNISTAutoencoder(20)
    large = ip.models.CIFAR10Autoencoder(256)
    assert threads_within(small, (1, 28, 28)) == 1
    assert threads_within(large, (3, 32, 32)) == 2
    assert threads_within(large, (3, 32, 32), batch_size=1) == 1
    assert torch.get_num_threads() == 2


def test_the_number_is_set_back_whatever_is_raised(two_threads):
    model, x = ip.models.MNISTAutoencoder(20), torch.rand(2, 1, 28, 28)
    with pytest.raises(KeyError), suitable_threads(model, lambda x: model(x).mean(), x, 9):
        raise KeyError
    assert torch.get_num_threads() == 2


def test_the_model_and_the_random_state_are_left_as_they_were(two_threads):
    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(1)
            self.frozen = torch.nn.Dropout().eval()

        def forward(self, x):
            return self.frozen(self.norm(x)) + torch.randn_like(x)

    model = Noisy().train()
    model.frozen.eval()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    x = torch.rand(2, 1, 8, 8)
    random = torch.get_rng_state()
    with suitable_threads(model, model, x, 4):
        pass
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == [True, True, False]


def test_fit_sets_the_number_back(two_threads):
    seen = []

    def loss(model, x):
        seen.append(torch.get_num_threads())
        return ip.models.reconstruction_loss(model, x)

    model = ip.models.MNISTAutoencoder(4)
    ip.models.fit(model, torch.rand(64, 1, 28, 28), loss=loss, epochs=1, batch_size=32)
    assert seen[-2:] == [1, 1]
    assert torch.get_num_threads() == 2
