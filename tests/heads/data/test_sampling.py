import torch

from heads.data.sampling import EpochSampler, sample_seed


def order(seed=0, epoch=0, shuffle=True):
    return list(EpochSampler(range(20), seed, lambda: epoch, shuffle=shuffle))


def test_order_depends_on_seed_and_epoch_alone():
    assert order() == order()
    assert sorted(i for _, i in order()) == list(range(20))
    assert [i for _, i in order(epoch=1)] != [i for _, i in order()] != [i for _, i in order(seed=1)]
    assert order(epoch=3, shuffle=False) == [(3, i) for i in range(20)]


def test_epoch_is_read_when_iteration_starts():
    epoch = 0
    sampler = EpochSampler(range(3), 0, lambda: epoch, shuffle=False)
    epoch = 5
    assert next(iter(sampler)) == (5, 0)


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
