from __future__ import annotations

import pytest
import torch
from torch import nn

from cases import tiny_data, tiny_model
from sparsify.data.load import Data, Split
from sparsify.data.scaling import Scaling
from sparsify.train.evaluate import evaluate
from sparsify.train.targets import dense_targets, without_labels

DATA = tiny_data(shape=(1, 8, 8))


@pytest.mark.parametrize("training", [True, False])
def test_targets_are_what_the_network_says_in_eval_mode_and_it_stays_as_it_was(training: bool):
    dense = tiny_model("resnet-20", DATA).train(training)
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    found = dense_targets(dense, DATA.train, batch_size=7)
    assert dense.training is training
    assert all(torch.equal(before[name], tensor) for name, tensor in dense.state_dict().items())
    with torch.no_grad():
        assert torch.allclose(found, dense.eval()(DATA.train.images), atol=1e-5)
    assert not found.requires_grad


def test_labels_are_replaced_and_images_are_not():
    dense = tiny_model("mlp:64-12-8-3", DATA)
    unlabelled = without_labels(DATA, dense)
    for ours, theirs in ((unlabelled.train, DATA.train), (unlabelled.validation, DATA.validation)):
        assert ours.images is theirs.images
        assert torch.equal(ours.labels, dense_targets(dense, theirs))
    assert unlabelled.classes == DATA.classes


def test_pictures_held_as_bytes_have_the_targets_and_scores_of_what_they_are_scaled_to():
    pixels = torch.randint(0, 256, (9, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(9) % 2
    held, whole = Split(pixels, labels, Scaling((100.0,), (51.0,))), Split((pixels.float() - 100) * (1 / 51), labels)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    torch.testing.assert_close(dense_targets(dense, held, batch_size=4), dense_targets(dense, whole))
    found, wanted = evaluate(dense, held, batch_size=4), evaluate(dense, whole)
    assert torch.equal(found.scores, wanted.scores) and abs(found.loss - wanted.loss) < 1e-5
    assert without_labels(Data(held, held, held, (1, 8, 8), 2), dense).train.scaling == held.scaling
