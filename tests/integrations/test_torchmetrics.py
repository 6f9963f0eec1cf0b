import pytest
import torch

import infoprobe as ip

pytest.importorskip("torchmetrics", reason="needs torchmetrics")
from infoprobe.integrations.torchmetrics import InformationMetric


def test_batches_give_what_all_samples_give():
    torch.manual_seed(0)
    x, y = torch.randn(400, 2), torch.randn(400, 1)
    metric = InformationMetric("mutual_information", ip.KNN(k=5))
    for batch in zip(x.split(150), y.split(150), strict=True):
        metric.update(*batch)
    assert metric.compute() == ip.mutual_information(x, y, ip.KNN(k=5))


def test_reset_forgets_and_the_default_estimator_is_that_of_the_function():
    metric = InformationMetric("entropy")
    metric.update(torch.zeros(50, 3))
    metric.reset()
    x = torch.randn(300)
    metric.update(x)
    assert metric.compute() == ip.entropy(x)


def test_an_unknown_measure_is_named():
    with pytest.raises(ValueError, match="measure: expected"):
        InformationMetric("enthalpy")


def test_lightning_logs_it():
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)
            self.information = InformationMetric("mutual_information", ip.Gaussian())

        def training_step(self, batch, _):
            (x,) = batch
            y = self.layer(x)
            self.information.update(x, y + torch.randn(len(y), 1))
            self.log("information", self.information, on_step=False, on_epoch=True)
            return y.square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(256, 2))
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few workers
        trainer.fit(Module(), torch.utils.data.DataLoader(data, batch_size=64))
    assert 0 < trainer.callback_metrics["information"] < 2
