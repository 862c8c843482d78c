"""Impossible settings and weights of every script: a sentence that names setting or file and entry, no traceback."""

from __future__ import annotations

import dataclasses
import random
import typing

import numpy as np
import pytest
import torch
from torch import nn

import demo
import eval as eval_script
import eval_coco
import train
from utils.body import load_learned_ratio, load_mean_params, read_regressor
from utils.checkpoint import StateMismatchError, load_danet, load_matching
from utils.config import ConfigError, build, from_dict, leaves, parse_config, read_yaml, to_dict
from utils.io import DataFileError
from utils.wording import shown

CONFIGS = [
    kind
    for script in (demo, eval_script, eval_coco, train)
    for kind in vars(script).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == script.__name__
    if kind.__name__.endswith("Config")
]
BOMB = "x: &a [l, l, l, l, l, l, l, l, l]\n" + "".join(
    f"x{n}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(12)
)
VALUES = [
    "", "null", "~", "yes", "on", "off", "1e3", "1e400", "-1", "0", "010", "0o7", "0x1f", "1_000", ".inf", "-.inf",
    ".nan", "٣", "１", "3.7", "1:30", "2020-01-01", "2020-13-45", "2001-12-14t21:59:43Z", "!!timestamp foo", "!!int ''",
    "!!float x", "!!bool x", "!!binary aGk=", "!!binary '?'", "!!set {a, b}", "!!omap [a: 1]",
    "!!python/name:os.system", "!!str 3", "!foo bar", "[", "{", "'", "[1, [2, [3]]]", "{a: 1}", "{1: 2}", "&a [*a]",
    "*b", "<<: {a: 1}", "\tx",
    "- \t1", "\ufeff3", '"\\0"', '"\\ud800"', "=", "? [a, b]\n: c", "[" * 1200, "{a: " * 600, "9" * 400, "9" * 5000,
    "0x" + "f" * 6000, "x" * 5_000, "|\n  text", "'quoted'", "true", "False", "[0, 0, 0, 0]", "[.nan]", "-0", "2.0",
]  # fmt: skip


def ends_in_a_sentence(action: typing.Callable[[], object]) -> str:
    """The message, if any; whatever is no `ValueError` is a failure of the test."""
    try:
        action()
    except ValueError as error:
        assert type(error) in (ConfigError, DataFileError, StateMismatchError), repr(error)
        message = str(error)
        listed = message.partition(" Known here: ")[0]
        assert len(listed) < 1500, message[:300]
        return message
    return ""


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__module__)
def test_every_setting_of_every_script_with_bad_values(config, tmp_path):
    rng, file, names = random.Random(1), tmp_path / "bad.yaml", list(leaves(config))
    given = {"name": "t"} if "name" in names else {}
    for text in VALUES:
        for name in rng.sample(names, 1):
            file.write_bytes(f"{name}: {text}\n".encode("utf-8", "surrogatepass"))
            message = ends_in_a_sentence(lambda: build(config, given | read_yaml(config, file)))
            named = (name, "bad.yaml", "valid YAML", "--")
            assert not message or any(word in message for word in named), message
    for value in (
        None, True, 3, -(2**70), 1e308, float("inf"), float("nan"), "x", "", b"x", [], [[]], {}, {1: 2}, (),
    ):  # fmt: skip
        for name in rng.sample(names, 3):
            ends_in_a_sentence(lambda name=name, value=value: from_dict(config, given | {name: value}))


@pytest.mark.parametrize(
    "text",
    [
        BOMB, f"DANET: {{{BOMB.splitlines()[0]}}}", "DANET: &a {B: *a}", "1: 2", "null: 3", "true: 4", "? {a: 1}\n: b",
        "a: &a {a: *a}", "DANET: {" + ", ".join(f"K{n}: {n}" for n in range(3_000)) + "}", "k" * 5_000 + ": 1",
        "a: 1\na: 2", "\ufeffbatch_size: 3\n1: 2", "summary_dir: 1\ncheckpoint_dir: 2\n3: 4\nx: 5", "!!set {a}",
        "DANET: {a: &x {}, b: &y {c: *x, d: *x}, e: &z {f: *y, g: *y}}", "DANET: {STN_PART_VIS_SCORE: {A: 1}}",
        "{}: 1", "--- 1\n--- 2",
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_bad_trees(text, tmp_path):
    (tmp_path / "bad.yaml").write_bytes(text.encode())
    ends_in_a_sentence(lambda: read_yaml(train.TrainConfig, tmp_path / "bad.yaml"))


def test_files_that_are_no_text(tmp_path):
    for raw in (b"\xff\xfe\x00", b"name: \xe9", "name: x".encode("utf-16"), b"\x00\x01", b"name: \x07"):
        (tmp_path / "bad.yaml").write_bytes(raw)
        assert "bad.yaml" in ends_in_a_sentence(lambda: read_yaml(train.TrainConfig, tmp_path / "bad.yaml"))
    assert "bad" in ends_in_a_sentence(lambda: read_yaml(train.TrainConfig, tmp_path / ("bad" * 200)))
    assert ends_in_a_sentence(lambda: read_yaml(train.TrainConfig, tmp_path))


@pytest.mark.parametrize(
    "words", ["name !!timestamp#foo", "a" + ".b" * 5000 + " 1", "DANET" + ".B" * 5000 + " 1", "1 2"]
)
def test_bad_misc(words, capsys):
    pair = [word.replace("#", " ") for word in words.split()]
    with pytest.raises(SystemExit) as stop:
        parse_config(train.TrainConfig, ["--name", "t", "--misc", *pair])
    said = capsys.readouterr().err
    assert stop.value.code == 1 and "Traceback" not in said and len(said.partition("Known here")[0]) < 800


def test_a_word_that_yaml_takes_for_something_else_is_asked_for_in_quotes(tmp_path):
    for text in ("yes", "2020-01-01", "!!binary aGk="):
        with pytest.raises(ConfigError, match="'name' takes a text, not .*Quote it"):
            (tmp_path / "a.yaml").write_text(f"name: {text}")
            read_yaml(train.TrainConfig, tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text(
        "name: 'yes'\nbase_lr: 1e-3\nlr_steps: [1, 2]\namp: yes\ntime_to_run: .inf"
    )
    config = from_dict(train.TrainConfig, read_yaml(train.TrainConfig, tmp_path / "a.yaml"))
    assert (config.name, config.optim.base_lr, config.amp) == ("yes", 1e-3, True)
    assert from_dict(train.TrainConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--base_lr 0", "would never move"), ("--base_lr -1", "between 0"), ("--ema_decay 1", "never move"),
        ("--partdrop_rate 1", "every part is hidden"), ("--uv_weight -1", "between 0"), ("--seed -1", "between 0"),
        ("--pretr_step -1", "between 0"), ("--time_to_run -1", "between 0"), ("--test_steps -5", "between 0"),
        ("--backbone_width 0", "between 1"), ("--hrnet_modules 1 0 1", "between 1"), ("--base_lr inf", "finite"),
        ("--features 1000000000", "between 1"),
    ],
)  # fmt: skip
def test_settings_that_train_nothing_are_refused(flags, said, capsys):
    with pytest.raises(SystemExit):
        parse_config(train.TrainConfig, ["--name", "t", *flags.split()])
    assert said in capsys.readouterr().err


class Foreign:
    def __repr__(self) -> str:
        raise RuntimeError


def test_values_are_shown_in_a_line():
    deep: list = []
    for _ in range(10_000):
        deep = [deep]
    for value in (
        deep,
        "x" * 10**6,
        10**10_000,
        {1: Foreign()},
        [[0] * 10**5] * 10**5,
        torch.zeros(9, 9),
        "a\nb",
    ):
        assert len(shown(value)) <= 500 and "\n" not in shown(value)
    assert shown("many") == "'many'" and shown([1, 2]) == "[1, 2]"


# ------------------------------------------------------------------------------------------------------ weights


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(2, 3), nn.BatchNorm1d(3)


@pytest.mark.parametrize("load", [load_danet, load_matching])
def test_bad_entries_of_weights_name_file_and_entry(load, tmp_path):
    path, weights = tmp_path / "a.pt", Tiny().state_dict()
    bad = [
        [1.0], "text", 3, None, float("nan"), {"a": torch.zeros(1)}, torch.zeros(0), torch.full((3, 2), float("nan")),
        torch.zeros(3, 2, dtype=torch.complex64), torch.zeros(3, 2, dtype=torch.bool),
        torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, 2).T,
    ]  # fmt: skip
    for value in bad:
        torch.save({"model": weights | {"layer.weight": value}}, path)
        message = ends_in_a_sentence(lambda: load(Tiny(), path))
        assert load is load_matching or ("a.pt" in message and "layer.weight" in message), (value, message)
    for content in (
        [1], {}, {"model": []}, {"model": {}}, {"model": {3: torch.zeros(1)}}, {"model": None}, "text",
        {1: 2},
    ):  # fmt: skip
        torch.save(content, path)
        assert "a.pt" in ends_in_a_sentence(lambda: load(Tiny(), path)), content
    torch.save({"model": weights, "meta": "text"}, path)
    assert "'meta'" in ends_in_a_sentence(lambda: load(Tiny(), path)) or load is load_matching


def test_bad_numbers_in_small_files(tmp_path):
    bad = [
        np.zeros(0), np.full(144, np.nan), np.full(144, 1e300), np.zeros(144, complex), np.array(["1"] * 144),
        np.zeros(144, bool), np.zeros((), "datetime64[s]"), np.zeros(10**4),
    ]  # fmt: skip
    for value in bad:
        np.savez(tmp_path / "m.npz", cam=np.zeros(3), shape=np.zeros(10), pose=value)
        assert "m.npz" in ends_in_a_sentence(lambda: load_mean_params(tmp_path / "m.npz"))
    texts = [
        "[]", "3", '{"ratio": 1}', '{"ratio": {}, "offset": []}', '{"ratio": [1e999], "offset": "x"}', "[" * 9999,
        '{"ratio": [' + "9" * 400 + '], "offset": []}', '{"ratio": [' + "9" * 9000 + "]}",
    ]  # fmt: skip
    for text in texts:
        (tmp_path / "r.json").write_text(text)
        assert "r.json" in ends_in_a_sentence(lambda: load_learned_ratio(tmp_path / "r.json"))
    for value in (np.zeros(3), np.full((9, 6890), np.nan), np.zeros((9, 6890), bool), np.zeros((9, 6891))):
        np.save(tmp_path / "j.npy", value)
        assert "j.npy" in ends_in_a_sentence(lambda: read_regressor(tmp_path / "j.npy", "extra"))
