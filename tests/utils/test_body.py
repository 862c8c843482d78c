"""Body files and assets: what is found, read and refused; whose regressor is whose."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import standin

from utils.body import (
    LICENSED_FILES,
    assets,
    find_smpl_file,
    load_learned_ratio,
    load_mean_params,
    read_regressor,
    read_smpl_file,
    resolve_body,
    surface_points,
)
from utils.io import DataFileError, UnsafeFileError, save_npz_atomic
from utils.skeleton import SMPL_PARENTS, SMPL_VERTEX_JOINT_IDS


@pytest.fixture(scope="module")
def arrays():
    """The stand-in body as the official files hold it, without pose correctives (they are large)."""
    found = standin.smpl_dict(0)
    found["J_regressor"] = scipy.sparse.csc_matrix(found["J_regressor"])
    del found["posedirs"]
    return found


@pytest.fixture(scope="module")
def licensed(tmp_path_factory):
    """A data folder with a complete licensed set (stand-ins)."""
    folder = tmp_path_factory.mktemp("licensed")
    body = standin.smpl_dict(0)
    regressor, posedirs = scipy.sparse.csc_matrix(body["J_regressor"]), body["posedirs"].astype(np.float32)
    write(folder / "smpl" / "SMPL_NEUTRAL.pkl", body, J_regressor=regressor, posedirs=posedirs)
    extra, h36m = standin.regressors()
    np.save(folder / "J_regressor_extra.npy", extra)
    np.save(folder / "J_regressor_h36m.npy", h36m)
    (folder / "UV_data").mkdir()
    scipy.io.savemat(folder / "UV_data" / "UV_Processed.mat", standin.uv_processed())
    return folder


def write(path, arrays, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({**arrays, **changes}, protocol=2))
    return path


def test_official_file_is_read_as_published(licensed):
    body = read_smpl_file(licensed / "smpl" / "SMPL_NEUTRAL.pkl")
    source = standin.smpl_dict(0)
    assert body.model_id == "smpl" and tuple(body.parents) == SMPL_PARENTS
    assert body.faces.dtype == np.int32 and body.faces.shape == (13776, 3)
    np.testing.assert_array_equal(body.J_regressor, source["J_regressor"].astype(np.float32))
    # [V, 3, 207] in the file, [207, 3 V] here
    np.testing.assert_array_equal(body.posedirs[5].reshape(-1, 3), source["posedirs"][:, :, 5].astype(np.float32))
    assert {a.dtype for a in (body.v_template, body.shapedirs, body.weights)} == {np.dtype(np.float32)}


def test_npz_form_gives_the_same_body(tmp_path, arrays):
    pkl = read_smpl_file(write(tmp_path / "a.pkl", arrays))
    dense = {**arrays, "J_regressor": arrays["J_regressor"].toarray()}
    save_npz_atomic(tmp_path / "a.npz", **dense)
    npz = read_smpl_file(tmp_path / "a.npz")
    for name in ("v_template", "shapedirs", "J_regressor", "weights", "parents", "faces"):
        np.testing.assert_array_equal(getattr(pkl, name), getattr(npz, name))
    np.savez(tmp_path / "b.npz", **arrays)  # the sparse matrix becomes a pickled object, as np.savez does
    np.testing.assert_array_equal(read_smpl_file(tmp_path / "b.npz").J_regressor, npz.J_regressor)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"v_template": np.zeros((100, 3))}, "100 vertices"),
        ({"v_template": np.zeros((6890, 2))}, "v_template has the shape"),
        ({"v_template": np.full((6890, 3), np.nan)}, "not finite"),
        ({"v_template": None}, "expected numbers"),
        ({"J_regressor": np.zeros((52, 6890))}, "52 joints"),
        ({"J_regressor": np.zeros((24, 5))}, "J_regressor has the shape"),
        ({"shapedirs": np.zeros((6890, 3, 4))}, "shapedirs has the shape"),
        ({"shapedirs": np.zeros((6890, 2, 10))}, "shapedirs has the shape"),
        ({"posedirs": np.zeros((6890, 3, 9))}, "posedirs has the shape"),
        ({"weights": np.zeros((6890, 23))}, "weights has the shape"),
        ({"weights": "heavy"}, "expected numbers"),
        ({"f": np.array([[0, 1, 6890]])}, "outside 0..6889"),
        ({"kintree_table": np.zeros((2, 24), int) + 30}, "no tree"),
        ({"kintree_table": np.zeros((2, 52), int)}, "kintree_table"),
    ],
)
def test_wrong_arrays_are_refused_in_words(tmp_path, arrays, changes, words):
    path = write(tmp_path / "a.pkl", arrays, **changes)
    with pytest.raises(DataFileError, match=words) as caught:
        read_smpl_file(path)
    assert str(path) in str(caught.value)


def test_other_files_are_refused_in_words(tmp_path, arrays):
    with pytest.raises(DataFileError, match="lacks J_regressor"):
        read_smpl_file(write(tmp_path / "a.pkl", {k: v for k, v in arrays.items() if k != "J_regressor"}))
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataFileError, match="holds a list"):
        read_smpl_file(tmp_path / "list.pkl")
    with pytest.raises(DataFileError, match="suffix"):
        read_smpl_file(tmp_path / "SMPL_NEUTRAL.mat")
    with pytest.raises(FileNotFoundError):
        read_smpl_file(tmp_path / "SMPL_NEUTRAL.pkl")


def test_official_regressors(licensed):
    extra, h36m = standin.regressors()
    found = read_regressor(licensed / "J_regressor_extra.npy", "extra")
    np.testing.assert_array_equal(found.matrix, extra.astype(np.float32))
    regressor = read_regressor(h36m, "h36m")
    assert regressor.model_id == "smpl" and regressor.names[0] == "pelvis" and len(regressor.names) == 17


@pytest.mark.parametrize("shape", [(8, 6890), (9, 6889), (9,)])
def test_regressors_of_a_wrong_shape_are_refused(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(DataFileError, match=r"\[9, 6890\]"):
        read_regressor(tmp_path / "a.npy", "extra")
    with pytest.raises(ValueError, match="Unknown kind"):
        read_regressor(tmp_path / "a.npy", "lsp")


def test_surface_points_of_the_official_body_are_vertices(licensed):
    body = read_smpl_file(licensed / "smpl" / "SMPL_NEUTRAL.pkl")
    points = surface_points(body).matrix @ body.v_template
    np.testing.assert_array_equal(points, body.v_template[list(SMPL_VERTEX_JOINT_IDS)])


@pytest.mark.parametrize(
    ("gender", "names"),
    [
        ("neutral", ["SMPL_NEUTRAL.pkl", "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"]),
        ("neutral", ["basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl", "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"]),
        ("male", ["SMPL_MALE.pkl", "SMPL_MALE.npz", "basicmodel_m_lbs_10_207_0_v1.1.0.pkl"]),
        ("male", ["basicmodel_m_lbs_10_207_0_v1.1.0.npz", "basicmodel_m_lbs_10_207_0_v1.0.0.pkl"]),
        ("female", ["smpl_female.PKL", "basicModel_f_lbs_10_207_0_v1.0.0.pkl"]),
        ("FEMALE", ["basicModel_f_lbs_10_207_0_v1.0.0.pkl"]),
    ],
)
def test_bodies_are_found_under_both_names(tmp_path, gender, names):
    """The first name is the one that wins."""
    (tmp_path / "smpl").mkdir()
    for other in ("SMPL_NEUTRAL.txt", "smplh_neutral.pkl", "my_SMPL_MALE.pkl", "SMPLX_FEMALE.npz"):
        (tmp_path / "smpl" / other).touch()
    assert find_smpl_file(gender, tmp_path) is None
    for name in names:
        (tmp_path / "smpl" / name).touch()
    assert find_smpl_file(gender, tmp_path).name == names[0]


def test_open_body_is_used_without_licensed_files(tmp_path):
    found = resolve_body("auto", tmp_path)
    assert found.body.model_id == found.atlas.model_id == found.h36m.model_id == "danet-open-1"
    assert found.log_line("w.pt (id 12)").count("\n") == 0
    assert all(word in found.log_line("w.pt (id 12)") for word in ("danet-open-1", "atlas", "w.pt (id 12)"))


def test_licensed_set_is_used_when_complete(licensed):
    for choice in ("auto", "smpl"):
        found = resolve_body(choice, licensed)
        assert found.body.model_id == found.atlas.model_id == found.surface.model_id == "smpl"
        assert "SMPL_NEUTRAL.pkl" in found.source and "UV_Processed.mat" in found.source
    assert resolve_body("open", licensed).body.model_id == "danet-open-1"


CORE = {key: LICENSED_FILES[key][1] for key in ("body", "atlas", "regressor_extra")}


@pytest.mark.parametrize("present", ["body", "atlas", "regressor_extra", "body_male"])
def test_half_a_set_names_what_is_missing_and_its_origin(tmp_path, present):
    file = tmp_path / {**CORE, "body_male": "smpl/basicmodel_m_lbs_10_207_0_v1.1.0.pkl"}[present]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    with pytest.raises(FileNotFoundError) as caught:
        resolve_body("auto", tmp_path)
    message = str(caught.value)
    assert file.name in message and "--body open" in message
    for key, name in CORE.items():
        if key != present:
            assert name in message and LICENSED_FILES[key][2] in message
    assert resolve_body("open", tmp_path).body.model_id == "danet-open-1"


def test_what_a_run_needs_beyond_the_core(tmp_path, licensed):
    for name in ("smpl", "UV_data", "J_regressor_extra.npy"):
        (tmp_path / name).symlink_to(licensed / name)
    assert resolve_body("smpl", tmp_path).h36m is None
    need = ("body", "atlas", "regressor_extra", "regressor_h36m")
    with pytest.raises(FileNotFoundError, match="J_regressor_h36m.npy.*SPIN"):
        resolve_body("smpl", tmp_path, need)
    assert resolve_body("smpl", licensed, need).h36m.matrix.shape == (17, 6890)


def test_a_data_folder_that_is_not_there_is_an_error(tmp_path):
    for choice in ("auto", "smpl", "open"):
        with pytest.raises(FileNotFoundError, match="no folder '.*dta'.*--data_dir"):
            resolve_body(choice, tmp_path / "dta")


def test_mean_parameters_ship_and_can_be_replaced(tmp_path, monkeypatch):
    shipped = load_mean_params()
    assert shipped.cam.shape == (3,) and shipped.betas.shape == (10,) and shipped.pose_6d.shape == (144,)
    save_npz_atomic(tmp_path / "smpl_mean_params.npz", **standin.mean_params())
    monkeypatch.setattr(assets, "DATA_DIR", tmp_path)
    np.testing.assert_array_equal(load_mean_params().pose_6d, standin.mean_params()["pose"])
    save_npz_atomic(tmp_path / "smpl_mean_params.npz", cam=np.zeros(3), shape=np.zeros(10), pose=np.zeros(72))
    with pytest.raises(DataFileError, match="'pose' must hold 144"):
        load_mean_params()


def test_learned_ratio_ships_and_the_2020_pickle_is_read(tmp_path, monkeypatch):
    ratio, offset = load_learned_ratio()
    assert ratio.shape == offset.shape == (24,) and ratio.min() > 0.3 and offset.min() > 0
    monkeypatch.setattr(assets, "DATA_DIR", tmp_path)
    values = {"ratio": np.arange(24.0), "offset": list(range(24)), "rot": np.zeros(24)}
    (tmp_path / "learned_ratio.pkl").write_bytes(pickle.dumps(values, protocol=2))
    ratio, offset = load_learned_ratio()
    np.testing.assert_array_equal(ratio, np.arange(24))
    np.testing.assert_array_equal(offset, np.arange(24))
    (tmp_path / "learned_ratio.pkl").write_bytes(pickle.dumps({"ratio": np.zeros(24)}))
    with pytest.raises(DataFileError, match="'offset'"):
        load_learned_ratio()
    (tmp_path / "learned_ratio.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UnsafeFileError, match="os.system"):
        load_learned_ratio()


def test_starting_numbers_are_looked_for_in_the_data_folder_of_the_run(tmp_path):
    mean, values = standin.mean_params(), {"ratio": np.arange(24.0), "offset": np.zeros(24)}
    save_npz_atomic(tmp_path / "smpl_mean_params.npz", **mean)
    (tmp_path / "pretrained_model").mkdir()
    (tmp_path / "pretrained_model" / "learned_ratio.pkl").write_bytes(pickle.dumps(values, protocol=2))
    np.testing.assert_array_equal(load_mean_params(data_dir=tmp_path).pose_6d, mean["pose"])
    np.testing.assert_array_equal(load_learned_ratio(data_dir=tmp_path)[0], np.arange(24))
    assert load_learned_ratio()[0][-1] < 23
