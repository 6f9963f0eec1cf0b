"""A callback of Hugging Face's Trainer that logs the entropies and divergences of all layers.

    python examples/huggingface_callback.py

trains a small Transformer with random initial weights to tell whether a sequence holds more of one
token than of another, and writes what was logged to --out/trainer_state.json. Copy the class into
your project: it works with any model, and the trained weights are bit-for-bit identical with and
without it.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from command_line import callback_options
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

import infoprobe as ip

MODEL = BertConfig(
    vocab_size=4,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=16,
)
LAYERS = ("bert.embeddings", "bert.encoder.layer.?", "classifier")


class InfoprobeCallback(TrainerCallback):
    """Adds `probe.report().scalars()` of the latest measured pass to the logs of the loss.

    Evaluations are not measured. The history in `trainer.state.log_history` always contains the
    scalars. The Trainer calls its own reporters (`report_to`) before other callbacks, so that they
    do not see the scalars unless they are named after this callback:
    `report_to="none", callbacks=[InfoprobeCallback(), TensorBoardCallback()]`.

    The Trainer does not call its callbacks when training fails; :meth:`remove` then removes the
    hooks from the model.

    Arguments:
        layers: The layers to measure, as for `ip.probe` (`"bert.encoder.layer.*.output"`).
        measures: The measures, as for `ip.probe`.
        every: The number of forward passes from one measured pass to the next.
    """

    def __init__(self, layers: Any = None, measures: Any = None, every: int = 100) -> None:
        self.layers, self.measures, self.every = layers, measures, every
        self.probe: ip.Probe | None = None
        self._pause = contextlib.ExitStack()

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Attaches the probe, which is paused except during training steps."""
        self.remove()
        self.probe = ip.probe(kwargs["model"], self.layers, self.measures).track(every=self.every)
        self._pause.enter_context(self.probe.pause())

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Resumes the probe."""
        self._pause.close()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Pauses the probe."""
        if self.probe is not None:
            self._pause.enter_context(self.probe.pause())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Adds the scalars to the logs and to the history."""
        if self.probe is not None and "loss" in kwargs["logs"]:
            scalars = self.probe.report().scalars()
            kwargs["logs"].update(scalars)
            state.log_history[-1].update(scalars)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Removes the hooks from the model. `probe.report()` remains available."""
        self.remove()

    def remove(self) -> None:
        """Removes the hooks from the model, if there are any."""
        if self.probe is not None:
            self.probe.remove()


def main(arguments: list[str] | None = None) -> None:
    """Trains the model with these arguments, or with those of the command line."""
    options = callback_options(__doc__, arguments)

    torch.manual_seed(options.seed)
    callback = InfoprobeCallback(LAYERS, ip.Entropy(), every=options.every)
    trainer = Trainer(
        BertForSequenceClassification(MODEL),
        TrainingArguments(
            options.out,
            max_steps=options.steps,
            per_device_train_batch_size=32,
            learning_rate=1e-3,
            logging_steps=options.every,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            seed=options.seed,
        ),
        train_dataset=sequences(4096),
        callbacks=[callback],
    )
    try:
        trainer.train()
    finally:
        callback.remove()
    trainer.save_state()
    assert callback.probe is not None
    print(callback.probe.report())
    print(f"\nWhat was logged is in {options.out / 'trainer_state.json'}")


def sequences(n: int) -> list[dict[str, torch.Tensor]]:
    """Returns random tokens, and whether there are more of token 0 than of token 1."""
    tokens = torch.randint(MODEL.vocab_size, (n, 16))
    labels = ((tokens == 0).sum(1) > (tokens == 1).sum(1)).long()
    return [{"input_ids": x, "labels": y} for x, y in zip(tokens, labels, strict=True)]


if __name__ == "__main__":
    main()
