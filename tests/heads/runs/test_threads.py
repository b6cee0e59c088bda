import pytest
import torch

from heads.runs.threads import choose_threads


@pytest.mark.parametrize(
    ("width", "asked", "threads"), [(96, None, 1), (192, None, 1), (768, None, 2), (96, "2", 2), (768, "1", 2)]
)
def test_small_models_are_computed_in_one_thread_unless_asked_otherwise(monkeypatch, width, asked, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)  # torch has followed it at its start
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        choose_threads(width)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
