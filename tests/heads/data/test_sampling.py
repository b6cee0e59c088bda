import pytest
import torch
from torch.utils.data import DistributedSampler

from heads.data.sampling import EpochSampler, sample_seed


def order(seed=0, epoch=0, training=True):
    return list(EpochSampler(range(20), seed, lambda: epoch, training=training))


def test_order_depends_on_seed_and_epoch_alone():
    assert order() == order()
    assert sorted(i for _, i in order()) == list(range(20))
    assert [i for _, i in order(epoch=1)] != [i for _, i in order()] != [i for _, i in order(seed=1)]
    assert order(epoch=3, training=False) == [(3, i) for i in range(20)]


def test_epoch_is_read_when_iteration_starts():
    epoch = 0
    sampler = EpochSampler(range(3), 0, lambda: epoch, training=False)
    epoch = 5
    assert next(iter(sampler)) == (5, 0)


def share(rank, world_size, training, images=7):
    sampler = EpochSampler(range(images), 0, lambda: 2, training=training, rank=rank, world_size=world_size)
    keys = list(sampler)
    assert len(keys) == len(sampler)
    return [i for _, i in keys]


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_processes_measure_every_image_once(world_size):
    shares = [share(rank, world_size, training=False) for rank in range(world_size)]
    assert sorted(i for s in shares for i in s) == list(range(7))


def test_processes_train_on_the_same_number_of_different_images():
    shares = [share(rank, 2, training=True) for rank in range(2)]
    assert [len(s) for s in shares] == [3, 3] and len({i for s in shares for i in s}) == 6


def test_fewer_images_than_processes_are_refused():
    with pytest.raises(ValueError, match="1 images for 2 processes"):
        share(0, 2, training=True, images=1)


def test_lightning_adds_no_sampler_of_its_own():
    assert isinstance(EpochSampler(range(3), 0, lambda: 0, training=False), DistributedSampler)


def draw(seed, key):
    with sample_seed(seed, key):
        return torch.rand(4).tolist()


def test_random_numbers_depend_on_seed_epoch_and_index():
    assert draw(0, (1, 2)) == draw(0, (1, 2))
    assert len({tuple(draw(*k)) for k in [(0, (1, 2)), (1, (1, 2)), (0, (2, 2)), (0, (1, 3)), (0, (2, 1))]}) == 5


def test_global_random_state_is_untouched():
    before = torch.get_rng_state()
    draw(0, (0, 0))
    assert torch.equal(torch.get_rng_state(), before)
