"""Classical autoencoders, to compare with the invertible ones."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from infoprobe import checks


class MNISTAutoencoder(nn.Module):
    """The classical autoencoder for MNIST of Nguyen, Ardizzone & Köthe (2019).

    Fully connected, 784-512-256-128-b and back, ReLU after each hidden layer, a linear code and
    Tanh at the end; 1,133,072 + 257 b trainable parameters. The layers are named ``encoder.fc1``
    (``.linear``, ``.relu``) to ``encoder.fc3``, ``encoder.code``, ``decoder.fc1`` to
    ``decoder.fc3``, ``decoder.output``.

    Arguments:
        bottleneck: The size of the code, b.

    References:
        T.-G. L. Nguyen, L. Ardizzone & U. Köthe (2019). Training invertible neural networks as
        autoencoders. GCPR. https://doi.org/10.1007/978-3-030-33676-9_31
    """

    def __init__(self, bottleneck: int) -> None:
        super().__init__()
        checks.integer(bottleneck, 1, None, "bottleneck")
        self.encoder = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                fc1=_hidden(784, 512),
                fc2=_hidden(512, 256),
                fc3=_hidden(256, 128),
                code=nn.Linear(128, bottleneck),
            )
        )
        self.decoder = nn.Sequential(
            OrderedDict(
                fc1=_hidden(bottleneck, 128),
                fc2=_hidden(128, 256),
                fc3=_hidden(256, 512),
                output=nn.Sequential(OrderedDict(linear=nn.Linear(512, 784), tanh=nn.Tanh())),
                unflatten=nn.Unflatten(1, (1, 28, 28)),
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.constant_(module.bias, 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructions of images (n, 1, 28, 28)."""
        return self.decode(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        """Codes (n, b) of images (n, 1, 28, 28)."""
        checks.sample_shape(x, (1, 28, 28), "x")
        code: Tensor = self.encoder(x)
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Images (n, 1, 28, 28) of codes (n, b)."""
        images: Tensor = self.decoder(code)
        return images


def _hidden(features_in: int, features_out: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(linear=nn.Linear(features_in, features_out), relu=nn.ReLU()))
