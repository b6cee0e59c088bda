"""Arguments of a tower as a task gives them: what is taken, what is refused, and what is remembered."""

import pytest

from heads import Extractor
from heads.backbones.tower_args import check_tower_args, tower_args_of
from siglip2_backbone import create_backbone

NAME = "siglip2_tiny_patch8_128"


@pytest.mark.parametrize("args", [None, {}, {"window_size": None, "pos_interp": None}], ids=str)
def test_none_is_as_good_as_nothing(args):
    assert check_tower_args(args, "frozen") == {}


@pytest.mark.parametrize(
    ("args", "tune", "message"),
    [
        ({"depth": 3}, "full", "tower_args has depth; expected some of window_size, global_blocks, drop_path_rate"),
        ({"windows": 3, "dtype": "x"}, "full", "tower_args has dtype, windows; expected"),
        ([14], "full", r"tower_args is \[14\]; expected names and values"),
        ({"drop_path_rate": 1.0}, "full", "drop_path_rate is 1.0; expected a number from 0 to below 1"),
        ({"drop_path_rate": -0.1}, "full", "drop_path_rate is -0.1"),
        ({"drop_path_rate": float("nan")}, "full", "drop_path_rate is nan"),
        ({"drop_path_rate": "0.1"}, "full", "drop_path_rate is '0.1'"),
        ({"drop_path_rate": True}, "full", "drop_path_rate is True"),
        ({"drop_path_rate": 0.1}, "frozen", "drop_path_rate is 0.1, but stochastic depth acts in training and tune is"),
    ],
)
def test_what_a_task_may_not_set_is_refused(args, tune, message):
    with pytest.raises(ValueError, match=message):
        check_tower_args(args, tune)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"window_size": 0}, "window_size is 0"),
        ({"global_blocks": [0]}, "without window_size every block is global"),
        ({"window_size": 3, "global_blocks": [9]}, r"global_blocks is \[9\]; expected block indices"),
        ({"pos_interp": "nearest"}, "pos_interp is 'nearest'; expected one of"),
    ],
)
def test_what_the_tower_refuses_is_refused_here(args, message):
    with pytest.raises(ValueError, match=message):
        Extractor(NAME, pretrained=False, tower_args=args)


@pytest.mark.parametrize(
    ("args", "tune", "remembered"),
    [
        ({}, "full", None),
        ({"window_size": 3}, "frozen", {"window_size": 3, "global_blocks": [0, 1, 2, 3]}),
        ({"window_size": 3, "global_blocks": (-1, 0)}, "full", {"window_size": 3, "global_blocks": [0, 3]}),
        ({"window_size": 3, "global_blocks": []}, "full", {"window_size": 3, "global_blocks": []}),
        ({"drop_path_rate": 0.1}, "lora", {"drop_path_rate": 0.1}),
        ({"drop_path_rate": 0.1}, "frozen", None),  # built by hand with it; it never acts
        ({"pos_interp": "bicubic"}, "frozen", {"pos_interp": "bicubic"}),
        ({"pos_interp": "bicubic_antialias"}, "frozen", None),
        ({"pos_interp": "bilinear_antialias"}, "frozen", {"pos_interp": "bilinear_antialias"}),
    ],
)
def test_what_is_not_usual_is_remembered(args, tune, remembered):
    assert tower_args_of(create_backbone(NAME, pretrained=False, **args).model, tune) == remembered


def test_the_usual_positions_of_a_naflex_tower_are_its_own():
    tower = create_backbone("siglip2_base_patch16_naflex", pretrained=False, device="meta").model
    assert tower.pos_interp == "bilinear_antialias" and tower_args_of(tower, "frozen") is None
