from __future__ import annotations

import pytest
import torch

from cases import tiny_data, tiny_model
from sparsify.train.targets import dense_targets, without_labels

DATA = tiny_data(shape=(1, 8, 8))


@pytest.mark.parametrize("training", [True, False])
def test_targets_are_what_the_network_says_in_eval_mode_and_it_stays_as_it_was(training: bool):
    dense = tiny_model("resnet-20", DATA).train(training)
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    found = dense_targets(dense, DATA.train.images, batch_size=7)
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
        assert torch.equal(ours.labels, dense_targets(dense, theirs.images))
    assert unlabelled.classes == DATA.classes
