"""Fitted bodies: the 2020 look-up, files and their refusals, and which members of a mix need them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from labelled import N, write_dp_coco, write_h36m, write_set, write_symmetry

from datasets.augment import change_pose
from datasets.base_dataset import BaseDataset
from datasets.fits import Fits, FitTable, fit_paths, load_fits, read_fits
from datasets.mixed_dataset import LABELS_OR_FITS, MixedDataset
from datasets.training_data import DataConfig, build_mix
from utils.geometry import batch_rodrigues
from utils.io import DataFileError, UnsafeFileError
from utils.structures import collate_samples


def table(values: np.ndarray, valid: bool = True) -> FitTable:
    values = values.astype(np.float32)
    return FitTable(values[:, :72], values[:, 72:], np.full(len(values), valid), Path())


def fitted(count: int = N, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.6, (count, 82))


@pytest.fixture
def arrays(golden):
    with np.load(golden / "fits.npz") as file:
        return {key.removeprefix("fits/"): file[key] for key in file.files}


def test_look_up_of_2020(arrays):
    """Two data sets in one batch, with rotations and flips."""
    fits = Fits({"h36m": table(arrays["h36m"]), "dp_coco": table(arrays["dp"], valid=False)})
    names = ["h36m", "h36m", "dp_coco", "dp_coco", "h36m"]
    rotvec, betas, valid = fits.look_up(names, arrays["ind"], arrays["rot"], arrays["flip"])
    np.testing.assert_allclose(rotvec, arrays["pose"], atol=1e-6, rtol=1e-6)
    np.testing.assert_array_equal(betas, arrays["betas"])
    assert valid.tolist() == [True, True, False, False, True]
    assert rotvec.dtype == betas.dtype == np.float32


def test_a_batch_equals_its_samples_and_the_label_path():
    """The look-up does to fits what the data sets do to labels."""
    values = fitted(50, seed=2)
    values[:10, :3] *= 4  # orientations beyond half a turn
    values[10, :3] = 0
    fits, rng = Fits({"coco": table(values)}), np.random.default_rng(0)
    index, rotation, flip = rng.integers(0, 50, 200), rng.uniform(-60, 60, 200), rng.random(200) < 0.5
    rotation[::3] = 0
    rotvec, _, _ = fits.look_up(["coco"] * 200, index, rotation, flip)
    for i in range(200):
        one = fits.look_up(["coco"], index[i : i + 1], rotation[i : i + 1], flip[i : i + 1])[0]
        np.testing.assert_array_equal(one[0], rotvec[i])
        wanted = change_pose(values[index[i], :72], rotation[i], bool(flip[i]))
        np.testing.assert_allclose(rotmats(rotvec[i]), rotmats(wanted), atol=2e-6)


def rotmats(rotvec: np.ndarray) -> torch.Tensor:
    return batch_rodrigues(torch.from_numpy(np.asarray(rotvec, np.float64)).view(-1, 3))


def test_people_without_a_table_have_no_fit():
    fits = Fits({"coco": table(fitted())})
    batch = SimpleNamespace(
        dataset=("synthetic", "coco"), index=torch.tensor([900, 1]), rotation_deg=torch.tensor([30.0, 0.0]),
        is_flipped=torch.tensor([True, False]), rotvec=torch.zeros(2, 72),
    )  # fmt: skip
    found = fits(batch)
    assert found.valid.tolist() == [False, True]
    assert not found.rotvec[0].any() and not found.betas[0].any() and found.rotvec[1].any()
    assert not Fits({})(batch).valid.any()
    with pytest.raises(IndexError, match=f"Person {N} of 'coco' was asked for, its fits hold 0..{N - 1}"):
        fits.look_up(["coco"], np.array([N]), np.zeros(1), np.zeros(1))


def write_npz(folder: Path, name: str, **changes: np.ndarray) -> Path:
    values = fitted()
    arrays = {"pose": values[:, :72], "betas": values[:, 72:], "valid_fit": np.arange(N) % 2, **changes}
    path = fit_paths(name, folder)[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def write_npy(folder: Path, name: str, values: np.ndarray, which: int) -> Path:
    path = fit_paths(name, folder)[which]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)
    return path


def test_files_are_found_in_their_order(tmp_path):
    assert read_fits("coco", N, tmp_path) is None
    static = write_npy(tmp_path, "coco", fitted(seed=1), which=1)
    assert static == tmp_path / "static_fits" / "coco_fits.npy"
    found = read_fits("coco", N, tmp_path)
    assert found.path == static and found.valid.all()  # static fits carry no flags: all count
    np.testing.assert_allclose(found.betas, fitted(seed=1)[:, 72:], rtol=1e-6)
    final = write_npz(tmp_path, "coco")
    assert final == tmp_path / "final_fits" / "coco.npz"
    found = read_fits("coco", N, tmp_path)
    assert found.path == final and found.valid.tolist() == [False, True, False, True]
    h36m = write_npy(tmp_path, "h36m", fitted(), which=0)
    assert h36m == tmp_path / "final_fits" / "h36m.npy" and read_fits("h36m", N, tmp_path).valid.all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"valid_fit": None}, "lacks valid_fit; expected pose, betas, valid_fit"),
        ({"pose": np.zeros((N, 69))}, r"pose has the shape \(4, 69\); expected \(4, 72\)"),
        ({"betas": np.zeros((N + 1, 10))}, r"betas has the shape \(5, 10\).*each of the 4 people"),
        ({"betas": np.full((N, 10), "x")}, "betas holds <U1; expected numbers"),
        ({"pose": np.full((N, 72), np.nan)}, "the fit of person 1 is not finite"),
    ],
)
def test_wrong_npz_files(tmp_path, changes, said):
    write_npz(tmp_path, "coco", **changes)
    with pytest.raises(DataFileError, match=said):
        read_fits("coco", N, tmp_path)


def test_wrong_npy_files(tmp_path):
    write_npy(tmp_path, "mpii", fitted(7), which=1)
    with pytest.raises(DataFileError, match=r"mpii_fits.npy has the shape \(7, 82\); expected \(4, 82\)"):
        read_fits("mpii", N, tmp_path)
    write_npy(tmp_path, "lspet", np.array([{}] * N, dtype=object), which=1)
    with pytest.raises(UnsafeFileError, match="lspet_fits.npy"):
        read_fits("lspet", N, tmp_path)


def test_numbers_of_an_invalid_fit_do_no_harm(tmp_path):
    pose = fitted()[:, :72]
    pose[0] = np.inf
    write_npz(tmp_path, "coco", pose=pose, valid_fit=np.array([[0], [1], [1], [0]]))
    found = read_fits("coco", N, tmp_path)
    assert np.isfinite(found.rotvec).all() and not found.rotvec[0].any()
    assert found.valid.tolist() == [False, True, True, False]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fits")
    write_symmetry(folder)
    write_h36m(folder)
    write_dp_coco(folder)
    write_set(folder, "coco_2014_train", "coco", ("part",))
    write_set(folder, "mpi_inf_3dhp_train", "mpi_inf_3dhp", ("part", "S", "pose", "shape"),
              has_smpl=np.array([1, 0, 1, 1]))  # fmt: skip
    return folder


@pytest.mark.parametrize("name", ["coco", "mpi-inf-3dhp"])
def test_missing_fits_are_one_sentence_at_start(folder, name, caplog):
    mix = build_mix(DataConfig(train_data=f"h36m+{name}"), folder)
    final, static = fit_paths(name, folder)
    with pytest.raises(FileNotFoundError) as error:
        load_fits(mix, folder)
    assert f"'{name}' are neither at {final} nor at {static}" in str(error.value)
    fits = load_fits(mix, folder, skip_missing=True)
    assert f"'{name}'" in caplog.text and fits.description == f"fits: {name} none"


def test_which_fits_count_follows_from_the_mix(folder, tmp_path):
    """Beside the labels of Human3.6M, the mix with dense labels trusts no fit; others trust those that are valid."""
    write_npy(tmp_path, "dp_coco", fitted(), which=1)
    write_npz(tmp_path, "coco")
    dense = load_fits(build_mix(DataConfig(train_data="h36m_dp"), folder), tmp_path)
    assert not dense.tables["dp_coco"].valid.any() and dense.tables["dp_coco"].rotvec.any()
    wild = load_fits(build_mix(DataConfig(train_data="coco+dp_coco+h36m"), folder), tmp_path)
    assert wild.tables["coco"].valid.sum() == 2 and wild.tables["dp_coco"].valid.all()
    assert "h36m" not in wild.tables
    assert wild.description == "fits: coco 2 valid of 4 (final_fits), dp_coco 4 valid of 4 (static_fits)"


def test_items_find_their_own_fits(folder, tmp_path):
    """Indices and names of a mix's samples lead to the rows of the file."""
    write_npz(tmp_path, "coco")
    members = [BaseDataset("coco", folder), BaseDataset("h36m", folder)]
    mix = MixedDataset(members, [0.7, 0.3], bodies=LABELS_OR_FITS)
    fits = load_fits(mix, tmp_path)
    batch = collate_samples([mix[i] for i in range(N)])
    found = fits(batch)
    for i in range(N):
        own = int(batch.index[i])
        is_coco = batch.dataset[i] == "coco"
        assert bool(found.valid[i]) == (is_coco and own % 2 == 1)
        turned = change_pose(fitted()[own, :72], float(batch.rotation_deg[i]), bool(batch.is_flipped[i]))
        wanted = turned if is_coco else np.zeros(72)
        np.testing.assert_allclose(rotmats(found.rotvec[i].numpy()), rotmats(wanted), atol=2e-6)
