import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler, Subset

from heads.data.sampling import EpochDataset, EpochSampler, OrderedSampler, sample_seed


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


# height over width of photographs as COCO has them
SHAPES = [480 / 640, 640 / 480, 427 / 640, 640 / 427, 1.0]


def shaped(rank=0, world_size=1, images=1000, batch_size=4, epoch=0):
    ratios = [SHAPES[i] for i in np.random.default_rng(1).choice(5, images, p=[0.45, 0.2, 0.2, 0.1, 0.05])]
    sampler = EpochSampler(
        range(images),
        0,
        lambda: epoch,
        training=True,
        rank=rank,
        world_size=world_size,
        aspect_ratios=ratios,
        batch_size=batch_size,
    )
    found = [i for _, i in sampler]
    assert len(found) == len(sampler)
    return [found[i : i + batch_size] for i in range(0, len(found), batch_size)], ratios


def mixed(batches, ratios):
    """Share of the batches in which shapes differ."""
    return np.mean([len({ratios[i] for i in batch}) > 1 for batch in batches])


def test_batches_are_of_like_shape_and_every_image_comes_once():
    batches, ratios = shaped()
    assert sorted(i for batch in batches for i in batch) == list(range(1000))
    assert mixed(batches, ratios) < 0.08
    plain = [i for _, i in EpochSampler(range(1000), 0, lambda: 0, training=True)]
    assert mixed(np.reshape(plain, (-1, 4)), ratios) > 0.7


def test_batches_by_shape_depend_on_the_epoch_and_are_shuffled():
    (first, ratios), (again, _), (other, _) = shaped(), shaped(), shaped(epoch=1)
    assert first == again and {frozenset(b) for b in first}.isdisjoint(frozenset(b) for b in other)
    order = [ratios[batch[0]] for batch in first]
    runs = 1 + sum(a != b for a, b in pairwise(order))
    assert runs > 100  # sorted they would be about 5 a block


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("images", [1000, 997])
def test_processes_get_whole_batches_of_like_shape(world_size, images):
    shares = [shaped(rank, world_size, images) for rank in range(world_size)]
    counts = [[len(batch) for batch in batches] for batches, _ in shares]
    assert all(count == counts[0] for count in counts)
    found = [i for batches, _ in shares for batch in batches for i in batch]
    assert len(set(found)) == len(found) == images // world_size * world_size
    ratios = shares[0][1]
    assert all(mixed(batches, ratios) < 0.12 for batches, _ in shares)
    steps = zip(*(batches for batches, _ in shares), strict=True)  # what all processes wait for each other in
    assert mixed([[i for batch in step for i in batch] for step in steps], ratios) < 0.12


def test_what_fills_no_batch_is_another_part_in_each_epoch():
    lasts = [shaped(images=10, epoch=epoch)[0][-1] for epoch in range(3)]
    assert all(len(last) == 2 for last in lasts) and len({frozenset(last) for last in lasts}) > 1


@pytest.mark.parametrize("images", [1, 3, 4])
def test_fewer_images_than_a_batch_by_shape(images):
    batches, _ = shaped(images=images)
    assert sorted(i for batch in batches for i in batch) == list(range(images))


def test_measuring_keeps_the_order_whatever_the_shapes():
    sampler = EpochSampler(range(5), 0, lambda: 0, training=False, aspect_ratios=[3, 1, 2, 5, 4], batch_size=2)
    assert [i for _, i in sampler] == [0, 1, 2, 3, 4]


class Keys(EpochDataset):
    """Answers with what it is asked for."""

    def __len__(self):
        return 3

    def sample(self, key):
        return {"key": key}


def test_a_plain_index_is_that_of_the_present_epoch():
    data = Keys()
    assert data[1] == data[np.int64(1)] == {"key": (0, 1)}
    data.epoch = lambda: 4
    assert data[1] == data[-2] == {"key": (4, 1)} and data[7, 2] == {"key": (7, 2)}
    assert [sample["key"] for sample in data] == [(4, 0), (4, 1), (4, 2)]
    assert [sample["key"] for sample in Subset(data, [2])] == [(4, 2)]
    assert copy.deepcopy(data)[0] == {"key": (4, 0)}  # as pickled for a spawned worker


@pytest.mark.parametrize("key", [3, -4, (0, 3)])
def test_an_index_that_is_not_there_is_an_index_error(key):
    with pytest.raises(IndexError, match=r"there are 3"):
        Keys()[key]


@pytest.mark.parametrize("workers", [0, 1])
def test_plain_loaders_work(workers):
    batches = DataLoader(Keys(), batch_size=2, num_workers=workers, shuffle=True, collate_fn=list)
    assert sorted(sample["key"] for batch in batches for sample in batch) == [(0, 0), (0, 1), (0, 2)]


def test_in_order_of_the_epoch_that_begins():
    epoch = 2
    sampler = OrderedSampler(Keys(), lambda: epoch)
    assert list(sampler) == [(2, 0), (2, 1), (2, 2)]
    epoch = 3
    assert next(iter(sampler)) == (3, 0) and isinstance(sampler, SequentialSampler)
