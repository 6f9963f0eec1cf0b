"""A callback of Hugging Face's Trainer that logs the entropies and divergences of all layers.

    python examples/huggingface_callback.py

trains a small Transformer with random initial weights to tell whether a sequence holds more of one
token than of another, and writes what was logged to --out/trainer_state.json. The callback
works with any model, and the trained weights are bit-for-bit identical with and without it.
"""

from __future__ import annotations

import torch
from command_line import callback_options
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
)

import infoprobe as ip
from infoprobe.integrations.hugging_face import ProbeCallback

MODEL = BertConfig(
    vocab_size=4,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=16,
)
LAYERS = ("bert.embeddings", "bert.encoder.layer.?", "classifier")


def main(arguments: list[str] | None = None) -> None:
    """Trains the model with these arguments, or with those of the command line."""
    options = callback_options(__doc__, arguments)

    torch.manual_seed(options.seed)
    callback = ProbeCallback(LAYERS, ip.Entropy(), every=options.every)
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
