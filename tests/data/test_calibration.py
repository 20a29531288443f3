import pytest
import torch

from sparsify.data.calibration import calibration_batches
from sparsify.data.load import Data, Split
from sparsify.errors import UsageError


def _data(examples: int = 50) -> Data:
    """Examples that each carry their own position, so that a draw can be read back."""
    position = torch.arange(examples)
    elsewhere = Split(torch.full((9, 1, 1, 1), -1.0), torch.full((9,), -1))
    return Data(Split(position.float().reshape(-1, 1, 1, 1), position), elsewhere, elsewhere, (1, 1, 1), examples)


def test_examples_are_from_train_alone_and_never_repeated():
    batches = calibration_batches(_data(), 50, seed=3, batch_size=16)
    drawn = torch.cat([labels for _, labels in batches])
    assert sorted(drawn.tolist()) == list(range(50))
    assert [len(labels) for _, labels in batches] == [16, 16, 16, 2]


def test_inputs_stay_with_their_labels():
    for images, labels in calibration_batches(_data(), 20, seed=0):
        assert torch.equal(images.flatten().long(), labels)


def test_more_examples_begin_with_the_same_ones():
    few, many = (torch.cat([y for _, y in calibration_batches(_data(), count, seed=1)]) for count in (7, 30))
    assert torch.equal(many[:7], few)


def test_the_seed_decides_and_the_global_state_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    draws = [calibration_batches(_data(), 10, seed=seed)[0][1].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("count", "batch_size"), [(0, 64), (5, 0), (51, 64)])
def test_impossible_draws_are_refused(count, batch_size):
    with pytest.raises(UsageError, match="calibration: expected at"):
        calibration_batches(_data(), count, seed=0, batch_size=batch_size)
