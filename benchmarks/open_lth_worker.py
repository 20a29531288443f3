"""Run open_lth (github.com/facebookresearch/open_lth, 2020) under today's torch, numpy and torchvision, unchanged.

    python open_lth_worker.py CHECKOUT SCRATCH epochs             one epoch for each JSON line on stdin
    python open_lth_worker.py CHECKOUT SCRATCH lottery --levels 2 ...      open_lth's own command line

Evaluation only. None of its code is here, and its checkout is not edited: what six years have broken is mended from
outside by `mend`. Images go through its own pipeline (one PIL image each, `ToTensor`, `Normalize`, its DataLoader):
`lay_out_images` puts Fashion-MNIST's four files where torchvision's MNIST reader, which open_lth calls, looks for
them; the two datasets share the file format.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def main() -> None:
    """Mend, lay out, and do what the arguments ask."""
    checkout, scratch, verb, *rest = sys.argv[1:]
    lay_out_images(Path(scratch))
    os.environ["HOME"] = scratch  # open_lth keeps data and results in the home folder
    sys.path[:0] = [str(Path(checkout).resolve()), str(Path(scratch) / "site-packages")]
    mend()
    if verb == "epochs":
        serve_epochs()
    else:
        sys.argv = ["open_lth.py", verb, *rest]
        import open_lth

        open_lth.main()


def lay_out_images(scratch: Path) -> None:
    """Unpack Fashion-MNIST as torchvision's MNIST reader expects it. SPARSIFY_DATA names the folder it comes from."""
    source = Path(os.environ.get("SPARSIFY_DATA", "/usr/share/datasets/fashion-mnist"))
    raw = scratch / "open_lth_datasets" / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if not (raw / name).exists():
            (raw / name).write_bytes(gzip.decompress((source / f"{name}.gz").read_bytes()))


def mend() -> None:
    """Give back what was removed since 2020, and let torchvision import beside a CPU build of torch."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    np.product = np.prod  # removed in numpy 2.0
    # Its subclass of this, used on several GPUs only, can no longer be declared: the order of bases conflicts.
    torch.nn.parallel.DistributedDataParallel = type("NotUsedHere", (torch.nn.Module,), {})
    if not torch.cuda.is_available():
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        globals()["_library"] = library  # its definitions go when it is collected


def serve_epochs() -> None:
    """Answer each request `{"optimizer": "sgd", "lr": 0.1}` with the seconds of one epoch, 60,000 images by 128.

    The network keeps its weights between requests. `train` is open_lth's loop with no callbacks: no evaluation and
    no checkpoint is counted. The level-0 mask of ones is applied at every forward pass, as in all its experiments.
    """
    import datasets.registry
    import models.registry
    import platforms.platform
    from foundations.hparams import TrainingHparams
    from foundations.step import Step
    from models.mnist_lenet import Model
    from platforms.local import Platform
    from pruning.mask import Mask
    from pruning.pruned_model import PrunedModel
    from training.train import train

    platforms.platform._PLATFORM = Platform(num_workers=0)
    desc = Model.default_hparams()
    loader = datasets.registry.get(desc.dataset_hparams, train=True)
    networks: dict[str, Any] = {}
    print(json.dumps({"ready": True, "images": len(loader.dataset), "batch_size": desc.dataset_hparams.batch_size}))
    sys.stdout.flush()
    for line in sys.stdin:
        wish = json.loads(line)
        if wish["optimizer"] not in networks:
            model = models.registry.get(desc.model_hparams)
            networks[wish["optimizer"]] = PrunedModel(model, Mask.ones_like(model))
        hparams = TrainingHparams(optimizer_name=wish["optimizer"], lr=wish["lr"], training_steps="1ep")
        end = Step.from_epoch(1, 0, loader.iterations_per_epoch)
        wall, cpu = time.perf_counter(), time.process_time()
        train(hparams, networks[wish["optimizer"]], loader, str(Path.home() / "epochs"), [], end_step=end)
        answer = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
