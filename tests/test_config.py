"""Config core: precedence, flat flags, YAML round trip, presets, 2020 files, errors that are sentences."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
import yaml

from utils.config import (
    ConfigError,
    build_parser,
    from_dict,
    group,
    leaves,
    option,
    parse_config,
    read_yaml,
    to_dict,
    to_yaml,
)


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


def words(text: str) -> list[str]:
    return text.split()


def fails(capsys, argv) -> str:
    with pytest.raises(SystemExit) as stop:
        parse_config(Script, argv)
    assert stop.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_defaults_are_the_dataclass_defaults():
    assert parse_config(Script, []) == Script()


def test_flags_are_flat_and_typed():
    config = parse_config(
        Script, words("--batch_size 2 --widths 8 16 --no_use_bias --verbose --size 1 2 --checkpoint a.pt")
    )
    assert config == Script(
        batch_size=2,
        verbose=True,
        size=(1, 2),
        checkpoint="a.pt",
        network=Network(widths=(8, 16), use_bias=False),
    )


def test_file_wins_over_defaults_and_flags_win_over_file(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("batch_size: 3\nverbose: true\nnetwork:\n  vis_threshold: 1e-2\nuse_bias: false\n")
    config = parse_config(Script, ["--cfg", str(file), "--batch_size", "5"])
    assert (config.batch_size, config.verbose) == (5, True)
    assert (config.network.vis_threshold, config.network.use_bias) == (0.01, False)
    assert parse_config(Script, ["--danet_cfg_file", str(file)]).batch_size == 3


def test_preset_sits_between_defaults_and_everything_else(tmp_path):
    assert parse_config(Script, ["--model", "small"]).network == PRESETS["small"]
    assert parse_config(Script, ["--model", "small", "--widths", "7"]).network == replace(
        PRESETS["small"], widths=(7,)
    )
    file = tmp_path / "a.yaml"
    file.write_text("model: small\nvis_threshold: 0\n")
    assert parse_config(Script, ["--cfg", str(file)]).network == replace(PRESETS["small"], vis_threshold=0.0)


@pytest.mark.parametrize("argv", [[], words("--model small --checkpoint x --size 3 4 --verbose")])
def test_yaml_round_trip(argv, tmp_path):
    config = parse_config(Script, argv)
    file = tmp_path / "dump.yaml"
    file.write_text(to_yaml(config))
    assert parse_config(Script, ["--cfg", str(file)]) == config
    assert from_dict(Script, to_dict(config)) == config
    yaml.safe_load(to_yaml(config))


def test_misc_sets_any_key():
    config = parse_config(
        Script, words("--misc network.widths [1,2] batch_size 4 DANET.STN_PART_VIS_SCORE 0.2")
    )
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
        ("verbose: 7\n", "takes true or false, not 7"),
        ("- 1\n", "must hold keys and values"),
        ("a: [\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("DANET: {INPUT_MODE: seg}\n", "INPUT_MODE is 'seg', but this project has 'iuv' only"),
        ("DANET: {INPUT_MODE: iuv, NO_SUCH_KEY: 1}\n", "unknown keys: DANET.NO_SUCH_KEY"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, said):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=".") as error:
        from_file = read_yaml(Script, file)
        raise AssertionError(from_file)
    assert said in str(error.value)


def test_2020_tree_goes_through_the_key_map(tmp_path, caplog):
    file = tmp_path / "old.yaml"
    file.write_text(
        "DANET:\n  INPUT_MODE: iuv\n  IUV_REGRESSOR: hrnet\n  STN_PART_VIS_SCORE: 0.4\n  STN_HM_WEIGHTS: -1\n"
        "SOLVER:\n  BASE_LR: 0.0001\n  TYPE: Adam\nHR_MODEL:\n  EXTRA: {STAGE2: {NUM_BRANCHES: 2}}\n"
    )
    with caplog.at_level("INFO"):
        config = parse_config(Script, ["--cfg", str(file)])
    assert config.network.vis_threshold == 0.4
    for note in (
        "SOLVER.TYPE has no effect",
        "STN_HM_WEIGHTS has no",
        "BASE_LR has no effect in this script",
    ):
        assert note in caplog.text


def test_two_settings_of_one_name_are_refused():
    @dataclass(frozen=True)
    class Clash:
        widths: int = 1
        network: Network = field(default_factory=Network)

    hints = {"widths": int, "network": Network}
    Clash.__annotations__ = hints
    with pytest.raises(TypeError, match=r"'network\.widths' has the same flag --widths as widths"):
        leaves(Clash)


def test_required_setting(capsys):
    @dataclass(frozen=True)
    class Needs:
        name: str = option(help="run name")

    with pytest.raises(SystemExit):
        parse_config(Needs, [])
    assert "--name is required" in capsys.readouterr().err
    assert parse_config(Needs, ["--name", "a"]).name == "a"


def test_help_shows_every_flag():
    text = build_parser(Script, "A script.").format_help()
    assert all(f"--{name}" in text for name in leaves(Script)) and "--danet_cfg_file" in text


def test_path_settings():
    @dataclass(frozen=True)
    class Places:
        out: Path = Path("output")

    Places.__annotations__ = {"out": Path}
    assert parse_config(Places, ["--out", "x"]).out == Path("x")
    assert "out: x" in to_yaml(Places(Path("x")))
