"""A network of the zoo trained, or fine-tuned from somebody's weights: the dense network that a grid prunes.

python benchmarks/train_dense.py --model resnet-20 --data fashion-mnist --epochs 20 --seed 0 --out FILE.safetensors

Given --weights, all of that file is taken but what has another shape here, the output layer for other classes; what was
left is printed. The learning rate warms up over 200 steps, or a tenth of all where that is less, then falls by cosine.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn

from sparsify.data.load import load
from sparsify.models.build import build
from sparsify.recipe.spec import AugmentSpec, DataSpec, ScheduleSpec, SgdSpec, TrainSpec
from sparsify.recipe.step import Step
from sparsify.store.weights import save_tensors
from sparsify.train.batches import steps_per_epoch
from sparsify.train.evaluate import evaluate
from sparsify.train.loop import fit


def main() -> None:
    """Train, say the accuracy on validation, write the weights."""
    options = _options()
    torch.set_num_threads(1)
    data = load(DataSpec(source=options.data, normalize=options.normalize))
    model = build(options.model, input_shape=data.input_shape, classes=data.classes, seed=options.seed)
    if options.weights is not None:
        _take(model, options.weights)
    steps = options.epochs * steps_per_epoch(len(data.train), options.batch_size)
    spec = TrainSpec(
        steps=Step(steps, "it"),
        batch_size=options.batch_size,
        optimizer=SgdSpec(lr=options.lr, weight_decay=options.weight_decay),
        schedule=ScheduleSpec(name="cosine", warmup=Step(min(200, steps // 10), "it")),
        augment=AugmentSpec(flip=True, crop=options.crop),
        precision="auto",
    )
    curve = fit(model, data, spec, seed=options.seed).history.validation_accuracy
    save_tensors(options.out, model.state_dict())
    score = evaluate(model, data.validation)
    print(f"{options.out}: {options.epochs} epochs of {len(data.train)} images, validation {score.value:.4f}; {curve}")


def _take(model: nn.Module, path: Path) -> None:
    """The tensors of `path` whose name and shape the model has; the rest is named."""
    here = model.state_dict()
    given = torch.load(path, weights_only=True)
    fitting = {name: tensor for name, tensor in given.items() if name in here and tensor.shape == here[name].shape}
    model.load_state_dict(here | fitting)
    print(f"{path}: taken but {', '.join(sorted(set(here) - set(fitting))) or 'nothing'}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a name of the zoo")
    parser.add_argument("--weights", type=Path, help="a .pth to begin from")
    parser.add_argument("--data", required=True, help="as a recipe's data.source")
    parser.add_argument("--normalize", default="standard", help="as a recipe's data.normalize")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--crop", type=int, default=2, help="pixels of padding that crops are taken from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
