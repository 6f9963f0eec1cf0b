import infoprobe as ip


def test_mnist5k():
    train, train_labels = ip.datasets.load("mnist5k")
    test, test_labels = ip.datasets.load("mnist5k", split="test")
    assert train.shape == (4000, 1, 28, 28)
    assert test.shape == (1000, 1, 28, 28)
    assert train.max() == 255
    assert train_labels.bincount().tolist() == [400] * 10
    assert test_labels.bincount().tolist() == [100] * 10


def test_mnist5k_holds_real_mnist_images(mnist_root):
    real, _ = ip.datasets.load("mnist", mnist_root)
    known = {image.numpy().tobytes() for image in real}
    some, _ = ip.datasets.load("mnist5k", split="test")
    assert all(image.numpy().tobytes() in known for image in some)


def test_digits():
    train, train_labels = ip.datasets.load("digits")
    test, _ = ip.datasets.load("digits", split="test")
    assert train.shape == (1438, 1, 8, 8)
    assert test.shape == (359, 1, 8, 8)
    assert train.max() == 16
    assert train_labels.bincount().min() > 120
