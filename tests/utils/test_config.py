"""Config core: precedence, flat flags, YAML round trip, presets, 2020 files, errors that are sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import pytest
import yaml

from models import DaNetConfig
from models.losses import LossWeights
from utils.config import ConfigError, from_dict, group, option, parse_config, read_yaml, to_dict, to_yaml


@dataclass(frozen=True)
class Network:
    backbone: Literal["hrnet", "movenet"] = "hrnet"
    widths: tuple[int, ...] = (48, 96)
    vis_threshold: float = 0.5
    use_bias: bool = True

    def __post_init__(self):
        if self.vis_threshold < 0:
            raise ValueError("vis_threshold must not be negative.")


PRESETS = {"full": Network(), "small": replace(Network(), backbone="movenet", widths=(24,))}


@dataclass(frozen=True)
class Script:
    img_dir: str = option("./examples", "a picture or a folder")
    model: str = option("full", "which network", choices=PRESETS)
    batch_size: int = 8
    checkpoint: str | None = None
    verbose: bool = False
    size: tuple[int, int] = (224, 224)
    network: Network = group(Network, preset_by="model", preset=PRESETS.__getitem__)


def fails(capsys, argv) -> str:
    with pytest.raises(SystemExit) as stop:
        parse_config(Script, argv)
    assert stop.value.code == 1
    return " ".join(capsys.readouterr().err.split())


def test_flags_are_flat_and_typed():
    flags = "--batch_size 2 --widths 8 16 --no_use_bias --verbose --size 1 2 --checkpoint a.pt"
    network = Network(widths=(8, 16), use_bias=False)
    expected = Script(batch_size=2, verbose=True, size=(1, 2), checkpoint="a.pt", network=network)
    assert parse_config(Script, flags.split()) == expected


def test_file_wins_over_defaults_and_flags_win_over_file(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("batch_size: 3\nverbose: true\nnetwork:\n  vis_threshold: 1e-2\nuse_bias: false\n")
    config = parse_config(Script, ["--cfg", str(file), "--batch_size", "5"])
    assert (config.batch_size, config.verbose) == (5, True)
    assert (config.network.vis_threshold, config.network.use_bias) == (0.01, False)
    assert parse_config(Script, ["--danet_cfg_file", str(file)]).batch_size == 3


def test_preset_sits_between_defaults_and_everything_else(tmp_path):
    assert parse_config(Script, ["--model", "small"]).network == PRESETS["small"]
    assert parse_config(Script, "--model small --widths 7".split()).network == replace(PRESETS["small"], widths=(7,))
    file = tmp_path / "a.yaml"
    file.write_text("model: small\nvis_threshold: 0\n")
    assert parse_config(Script, ["--cfg", str(file)]).network == replace(PRESETS["small"], vis_threshold=0.0)


@pytest.mark.parametrize("argv", [[], "--model small --checkpoint x --size 3 4 --verbose".split()])
def test_yaml_round_trip(argv, tmp_path):
    config = parse_config(Script, argv)
    file = tmp_path / "dump.yaml"
    file.write_text(to_yaml(config))
    assert parse_config(Script, ["--cfg", str(file)]) == config
    assert from_dict(Script, to_dict(config)) == config
    yaml.safe_load(to_yaml(config))


def test_misc_sets_any_key():
    config = parse_config(Script, "--misc network.widths [1,2] batch_size 4 DANET.STN_PART_VIS_SCORE 0.2".split())
    assert (config.network.widths, config.batch_size, config.network.vis_threshold) == ((1, 2), 4, 0.2)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--batch_size", "2", "--batch_size", "3"], "given twice"),
        (["--verbose", "--no_verbose"], "given twice"),
        (["--cfg", "a", "--danet_cfg_file", "b"], "given twice"),
        (["--batch_size", "2.5"], "takes a whole number, not '2.5'"),
        (["--size", "1", "2", "3"], "takes 2 values"),
        (["--model", "huge"], "takes one of full, small; it was given 'huge'"),
        (["--backbone", "vgg"], "takes one of hrnet, movenet"),
        (["--batch", "2"], "unrecognized arguments: --batch"),
        (["--vis_threshold", "-1"], "must not be negative"),
        (["--cfg", "nowhere.yaml"], "cannot be read: No such file"),
        (["--misc", "batch_size"], "pairs of KEY VALUE"),
        (["--misc", "batch_size", "3", "--batch_size", "4"], "two values, 3 and 4"),
        (["--misc", "nothing.such", "3"], "--misc has unknown keys: nothing"),
        (["--misc", "batch_size", "[x"], "value of batch_size in --misc, '[x', is not valid YAML"),
        (["--misc", "batch_size", "2020-13-45"], "not valid YAML: month must be in 1..12"),
        (["--vis_threshold", "nan"], "takes a number, not 'nan'"),
    ],
)
def test_bad_command_lines_end_with_a_sentence(capsys, argv, said):
    assert said in fails(capsys, argv)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batchsize: 3\nnetwork: {width: 2}\n", "unknown keys: batchsize, network.width"),
        ("batch_size: 3\nbatch_size: 4\n", "'batch_size' stands twice"),
        ("widths: [1]\nnetwork: {widths: [2]}\n", "'widths' twice"),
        ("batch_size: many\n", "takes a whole number, not 'many'"),
        ("batch_size: .inf\n", "takes a whole number, not inf"),
        ("batch_size: .nan\n", "takes a whole number, not nan"),
        (f"vis_threshold: 1{'0' * 400}\n", "takes a number, not 10000"),
        ("verbose: 7\n", "takes true or false, not 7"),
        ("- 1\n", "must hold keys and values"),
        ("a: [\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("DANET: {INPUT_MODE: seg}\n", "INPUT_MODE is 'seg', but this project has 'iuv', 'iuv_gt' only"),
        ("DANET: {INPUT_MODE: [iuv]}\n", "INPUT_MODE is ['iuv'], but"),
        ("DANET: {DECOMPOSED: 1}\n", "DECOMPOSED is 1, but this project has True, False only"),
        ("DANET: {REFINE_STRATEGY: tcn}\n", "has 'gcn', 'lstm', 'lstm_direct', 'gcn_direct' only"),
        ("DANET: {USE_LEARNED_RATIO: false}\n", "USE_LEARNED_RATIO is False, but this project has True only"),
        ("DANET: {INPUT_MODE: iuv}\nno_such_key: 1\n", "unknown keys: no_such_key"),
        ("DANET: {STN_PART_VIS_SCORE: 0.4}\nvis_threshold: 0.3\n", "SCORE both give 'vis_threshold'"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, said):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_yaml(Script, file)


def test_2020_tree_goes_through_the_key_map(tmp_path, caplog):
    file = tmp_path / "old.yaml"
    file.write_text(
        "DANET:\n  INPUT_MODE: iuv\n  IUV_REGRESSOR: hrnet\n  STN_PART_VIS_SCORE: 0.4\n  STN_HM_WEIGHTS: -1\n"
        "SOLVER:\n  BASE_LR: 0.0001\n  TYPE: Adam\nHR_MODEL:\n  EXTRA: {STAGE2: {NUM_BRANCHES: 2}, A: 1}\n"
    )
    config = parse_config(Script, ["--cfg", str(file)])
    assert config.network.vis_threshold == 0.4
    (line,) = caplog.messages
    for note in (
        "SOLVER.TYPE (the optimiser is Adam",
        "DANET.STN_HM_WEIGHTS (the 2020 code could not",
        "SOLVER.BASE_LR (no such setting in this script)",
        "HR_MODEL.* (the layout",
    ):
        assert line.count(note) == 1


@dataclass(frozen=True)
class Choosing:
    net: DaNetConfig = group(DaNetConfig)
    pretr_set: str = "none"


DEFAULTS_2020 = {
    "INPUT_MODE": "iuv", "IUV_REGRESSOR": "hrnet", "DECOMPOSED": True, "REFINE_STRATEGY": "gcn", "REFINE_ON": True,
    "USE_6D_ROT": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({}, {}),
        ({"IUV_REGRESSOR": "resnet"}, {"backbone": "resnet"}),
        ({"INPUT_MODE": "iuv_gt"}, {"input_mode": "iuv_gt"}),
        ({"DECOMPOSED": False}, {"decomposed": False}),
        ({"DECOMPOSED": False, "REFINE_STRATEGY": "lstm", "REFINE_ON": False}, {"decomposed": False}),
        ({"REFINE_STRATEGY": "lstm"}, {"refinement": "lstm"}),
        ({"REFINE_STRATEGY": "lstm_direct"}, {"refinement": "lstm_direct"}),
        ({"REFINE_STRATEGY": "lstm_direct", "USE_6D_ROT": False}, {"refinement": "lstm_direct"}),
        ({"REFINE_STRATEGY": "gcn_direct", "USE_6D_ROT": False}, {"refinement": "gcn_direct"}),
        ({"REFINE_ON": False}, {"refinement": "none"}),
        ({"IUV_REGRESSOR": "resnet", "REFINE_ON": False}, {"backbone": "resnet", "refinement": "none"}),
    ],
    ids=str,
)
def test_2020_files_choose_networks(changes, ours):
    tree = {"DANET": DEFAULTS_2020 | changes, "HR_MODEL": {"PRETR_SET": "coco"}}
    config = from_dict(Choosing, tree)
    assert config == Choosing(DaNetConfig(**ours), pretr_set="coco")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"REFINE_STRATEGY": "gcn_direct"}, "'gcn_direct', DANET.REFINE_ON True and DANET.USE_6D_ROT True contradict"),
        ({"USE_6D_ROT": False}, "'gcn', DANET.REFINE_ON True and DANET.USE_6D_ROT False contradict"),
        ({"REFINE_STRATEGY": "lstm", "USE_6D_ROT": False}, "'lstm', DANET.REFINE_ON True and DANET.USE_6D_ROT False"),
        ({"REFINE_STRATEGY": "lstm", "REFINE_ON": False}, "REFINE_ON False goes with 'gcn' only"),
        ({"INPUT_MODE": "iuv_feat"}, "INPUT_MODE is 'iuv_feat'"),
        ({"IUV_REGRESSOR": None}, "IUV_REGRESSOR is None"),
    ],
)
def test_senseless_2020_networks_are_refused(changes, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        from_dict(Choosing, {"DANET": DEFAULTS_2020 | changes})


def test_2020_networks_on_the_command_line_and_beside_our_own_keys(caplog):
    config = parse_config(
        Choosing,
        "--misc DANET.REFINE_STRATEGY gcn_direct DANET.USE_6D_ROT false DANET.ORTHOGONAL_WEIGHTS 1".split(),
    )
    assert config.net.refinement == "gcn_direct"
    assert "DANET.USE_6D_ROT (it follows from DANET.REFINE_STRATEGY)" in caplog.text
    assert "DANET.ORTHOGONAL_WEIGHTS (no such setting in this script)" in caplog.text
    caplog.clear()
    from_dict(Choosing, {"DANET": {"DECOMPOSED": False, "REFINE_STRATEGY": "lstm", "REFINE_ON": True}})
    assert "DANET.REFINE_STRATEGY (a network without parts has nothing to refine)" in caplog.text
    assert "REFINE_ON" not in caplog.text
    assert from_dict(Script, {"DANET": {"REFINE_ON": False}}) == Script()  # a script without that choice
    assert "DANET.REFINE_ON (no such setting in this script)" in caplog.text
    with pytest.raises(ConfigError, match="REFINE_STRATEGY both give 'refinement'"):
        from_dict(Choosing, {"DANET": {"REFINE_STRATEGY": "lstm"}, "refinement": "lstm"})


def test_2020_loss_weights_and_schedule_are_carried_over():
    @dataclass(frozen=True)
    class Training:
        losses: LossWeights = group(LossWeights)
        lr_steps: tuple[int, ...] = ()

    Training.__annotations__ = {"losses": LossWeights, "lr_steps": tuple[int, ...]}
    danet = {"STN_KPS": 1.5, "POSE_PARA": 61, "SHAPE_PARA": 0.07, "PROJ_KPS": 301, "KPS3D": 302, "JOINT_POSITION": 2,
             "VERTS": 3, "ORTHOGONAL": -1}  # fmt: skip
    points = {"PART_WEIGHTS": 0.4, "POINT_REGRESSION_WEIGHTS": 0.6, "INDEX_WEIGHTS": 2.5}
    tree = {"DANET": {f"{name}_WEIGHTS": value for name, value in danet.items()}, "BODY_UV_RCNN": points}
    config = from_dict(Training, tree | {"SOLVER": {"STEPS": [0, 10, 20]}})
    assert config.lr_steps == (10, 20)
    assert config.losses == LossWeights(
        roi_weight=1.5, rotation_weight=61.0, betas_weight=0.07, keypoints_2d_weight=301.0, keypoints_3d_weight=302.0,
        position_weight=2.0, verts_weight=3.0, orthogonal_weight=-1.0, point_index_weight=0.4, uv_weight=0.6,
        point_ann_weight=2.5,
    )  # fmt: skip
    for steps in (None, "soon"):
        with pytest.raises(ConfigError, match="'lr_steps' takes a list of values"):
            from_dict(Training, {"SOLVER": {"STEPS": steps}})
