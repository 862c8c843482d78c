"""The doctor: what it says of good, missing, damaged, hostile and mixed-up files, packages and numbers."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import standin
import torch
from labelled import N, write_set

from datasets.registry import SPECS
from utils import doctor, doctor_files, doctor_self_test
from utils.assets import CORE_NEED, LICENSED_FILES
from utils.body import OPEN_DIR, read_smpl_file
from utils.doctor_checks import ABSENT, BROKEN, MISSING, OK, package, section
from utils.renderer import IUV_Renderer
from utils.safe_io import DataFileError, load_npy, load_npz

BODY, EXTRA, H36M = "smpl/SMPL_NEUTRAL.pkl", "J_regressor_extra.npy", "J_regressor_h36m.npy"


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    """A whole official set, of stand-ins."""
    folder = tmp_path_factory.mktemp("official")
    standin.write_all(folder)
    return folder


@pytest.fixture(scope="module")
def body(official):
    return read_smpl_file(official / BODY)


@pytest.fixture
def own(official, tmp_path) -> Path:
    """What the demo and evaluations need of it; files may be replaced (not written to: they are links)."""
    shutil.copytree(
        official,
        tmp_path / "data",
        copy_function=lambda a, b: Path(b).hardlink_to(a),
        ignore=shutil.ignore_patterns("*MALE.pkl", "UV_symmetry*"),
    )
    return tmp_path / "data"


def put(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def by_name(findings) -> dict:
    return {finding.name: finding for finding in findings}


class Creates:
    """A pickle that makes a file when it is read by pickle itself."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


# --------------------------------------------------------------------------------------------------- whole pages


def test_a_fresh_checkout_is_well(tmp_path, capsys):
    (tmp_path / "smpl").mkdir()
    assert doctor.main(["--data_dir", str(tmp_path)]) == 0
    page = capsys.readouterr().out
    assert page.endswith("\nAll is well.\n") and "broken  " not in page and "missing  " not in page
    assert max(map(len, page.splitlines())) <= doctor.WIDTH
    for title in doctor.sections(tmp_path):
        assert f"\n{title}\n" in page
    assert "official body" in page and "none of its files is there" in page
    assert "run: bash get_densepose_uv.sh" in page  # where to get what is not there


def test_without_packages_the_page_still_comes(root):
    """As after a clone, before anything is installed."""
    without = ["numpy", "scipy", "torch", "torchvision", "cv2", "numba", "onnxruntime", "yaml", "PIL", "tqdm"]
    script = f"""if True:
        import sys
        sys.modules.update(dict.fromkeys({without}))
        from utils import doctor
        sys.exit(doctor.main([]))"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1 and not done.stderr
    assert "  missing torch " in done.stdout and "  broken  Self-test" in done.stdout
    assert "not before this is repaired: torch, " in done.stdout


def test_what_is_broken_is_listed_with_what_to_do(own, capsys, monkeypatch):
    """Without the sections that have tests of their own."""
    put(own / BODY, (own / BODY).read_bytes()[:5000])
    whole = doctor.sections(own)
    short = {title: (whole[title] if title == "Licensed files" else lambda: ()) for title in whole}
    monkeypatch.setattr(doctor, "sections", lambda data_dir: short)
    assert doctor.main(["--data_dir", str(own)]) == 1
    page = capsys.readouterr().out
    assert "1 is broken or missing. What to do:" in page and "Get it again: from smplify" in page
    assert "no, it also needs smpl/SMPL_NEUTRAL.pkl" in " ".join(page.split())
    assert "yes: demo, training and evaluation on rendered people (--body open)" in page


def test_a_missing_data_folder_is_named(tmp_path):
    (finding,) = doctor_files.licensed_files(tmp_path / "nowhere")
    assert finding.mark == MISSING and "nowhere" in finding.name and "--data_dir" in finding.cure


# ------------------------------------------------------------------------------------------------ licensed files


def test_a_whole_official_set_is_well(official):
    found = list(doctor_files.licensed_files(official))
    assert {finding.mark for finding in found} == {OK}
    assert {finding.name for finding in found} >= {name for _, name, _ in LICENSED_FILES.values()}


def test_half_a_set_lacks_its_other_half(own):
    for name in (EXTRA, H36M):
        (own / name).unlink()
    found = by_name(doctor_files.licensed_files(own))
    assert found[EXTRA].mark == MISSING and "SPIN" in found[EXTRA].cure
    assert found[H36M].mark == found["smpl/SMPL_MALE.pkl"].mark == ABSENT


def test_a_published_name_is_known_and_another_is_pointed_out(own):
    (own / BODY).rename(own / "smpl" / "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl")
    put(own / "smpl" / "woman.pkl", b"")
    found = by_name(doctor_files.licensed_files(own))
    assert found[BODY].mark == OK and "basicModel_neutral_lbs" in found[BODY].text
    assert found["smpl/woman.pkl"].mark == ABSENT and "not used" in found["smpl/woman.pkl"].text


@pytest.mark.parametrize("size", [0, 3, 5000, -1])
def test_a_truncated_pickle_is_damaged(own, size):
    put(own / BODY, (own / BODY).read_bytes()[:size])
    (own / "UV_data" / "UV_Processed.mat").unlink()
    finding = by_name(doctor_files.licensed_files(own))[BODY]
    assert finding.mark == BROKEN and "not a readable pickle" in finding.text
    assert finding.cure.startswith("Get it again: from smplify")


@pytest.mark.parametrize("name", [BODY, EXTRA, "learned_ratio.pkl"])
def test_code_in_a_file_is_reported_and_not_run(own, tmp_path, name):
    trap = tmp_path / "trap"
    hostile = pickle.dumps({"ratio": Creates(trap)})
    if name == EXTRA:
        np.save(tmp_path / "array.npy", np.array([Creates(trap)], dtype=object))
        hostile = (tmp_path / "array.npy").read_bytes()
    put(own / name, hostile)
    finding = by_name(doctor_files.licensed_files(own))[name]
    assert finding.mark == BROKEN and (
        "Nothing of it was run" in finding.text or "may run code" in finding.text
    )
    assert not trap.exists()


def test_an_open_regressor_in_place_of_an_official_one(own):
    """The open body has as many vertices as SMPL: only the content tells."""
    (own / EXTRA).unlink()
    np.save(own / EXTRA, load_npz(OPEN_DIR / "regressors.npz")["extra"])
    finding = by_name(doctor_files.licensed_files(own))[EXTRA]
    assert finding.mark == BROKEN and "of another body" in finding.text and "danet-open-1" in finding.text
    assert "SPIN" in finding.cure


@pytest.mark.parametrize(("name", "kind"), [(EXTRA, "extra"), (H36M, "h36m")])
def test_regressors_of_other_bodies_are_found(official, tmp_path, body, name, kind):
    good = load_npy(official / name)
    others = {
        "of another body: its": load_npz(OPEN_DIR / "regressors.npz")[kind] * 0.999,
        "m from the body's own": good[:, np.random.default_rng(0).permutation(good.shape[1])],
        "regressor is": good[:, :500],
        "not finite": np.where(np.arange(len(good))[:, None] == 3, np.nan, good),
    }
    for said, matrix in others.items():
        np.save(tmp_path / name, matrix)
        with pytest.raises(DataFileError, match=said):
            doctor_files.check_regressor(tmp_path / name, kind, body)
    assert "not tried" in doctor_files.check_regressor(official / name, kind, None)


def test_the_open_body_is_not_the_official_one(own):
    (own / BODY).unlink()
    arrays = load_npz(OPEN_DIR / "body.npz")
    for changed in (arrays, {name: value for name, value in arrays.items() if name != "model_id"}):
        np.savez(own / "smpl" / "SMPL_NEUTRAL.npz", **changed)
        finding = by_name(doctor_files.licensed_files(own))[BODY]
        assert finding.mark == BROKEN and "danet-open-1" in finding.text


# ------------------------------------------------------------------------------------------------- shipped files


def test_a_changed_and_a_missing_shipped_file(tmp_path, monkeypatch):
    shutil.copytree(OPEN_DIR, tmp_path / "open", copy_function=lambda a, b: Path(b).hardlink_to(a))
    arrays = load_npz(OPEN_DIR / "smpl_mean_params.npz")
    (tmp_path / "open" / "smpl_mean_params.npz").unlink()
    np.savez(tmp_path / "open" / "smpl_mean_params.npz", **{**arrays, "cam": arrays["cam"] * 1.01})
    put(tmp_path / "open" / "atlas.npz", (OPEN_DIR / "atlas.npz").read_bytes()[:-100])
    (tmp_path / "open" / "movenet_multipose.onnx").unlink()
    monkeypatch.setattr(doctor_files, "OPEN_DIR", tmp_path / "open")
    bad = {f.name: f for f in doctor_files.shipped_files() if f.mark != OK}
    assert set(bad) == {"open/smpl_mean_params.npz", "open/atlas.npz", "open/movenet_multipose.onnx"}
    assert "not as it ships" in bad["open/smpl_mean_params.npz"].text
    assert "readable" in bad["open/atlas.npz"].text
    assert bad["open/movenet_multipose.onnx"].mark == MISSING
    assert all("git checkout -- data/open" in finding.cure for finding in bad.values())


# ----------------------------------------------------------------------------------- weights, labels, test sets


def test_weights(tmp_path):
    folder = tmp_path / "pretrained_model"
    folder.mkdir()
    (folder / "ours.safetensors").hardlink_to(OPEN_DIR / "danet_s.safetensors")
    torch.save({"a.weight": torch.ones(3)}, folder / "other.pt")
    put(folder / "cut.pt", (folder / "other.pt").read_bytes()[:-50])
    trap = tmp_path / "trap"
    torch.save({"model": {"img2iuv.x": Creates(trap)}}, folder / "hostile.pt")
    torch.save({"img2iuv.iuv_est.trunk.x": torch.ones(3)}, folder / "half.pt")
    found = {name.split("/")[1]: f for name, f in by_name(doctor_files.weights_files(tmp_path)).items()}
    assert found["ours.safetensors"].mark == OK and "weights of DaNet" in found["ours.safetensors"].text
    assert found["other.pt"].text == "1 tensors, not of DaNet"
    assert {found[name].mark for name in ("cut.pt", "hostile.pt", "half.pt")} == {BROKEN}
    assert "Nothing of it was run" in found["hostile.pt"].text and not trap.exists()


def test_labels_fits_and_the_sets_that_can_be_scored(tmp_path):
    write_set(tmp_path, "h36m_valid_protocol2", "h36m", ("S",))
    write_set(tmp_path, "lspet_train", "elsewhere", ("part",))
    write_set(tmp_path, "hr-lspet_train", "elsewhere", ("part",))
    write_set(tmp_path, "3dpw_test", "elsewhere", ("pose", "shape"), gender=np.array(["m"] * N))
    write_set(tmp_path, "mpi_inf_3dhp_valid", "mpi_inf_3dhp", ("part",))  # lacks S
    (tmp_path / "static_fits").mkdir()
    np.save(tmp_path / "static_fits" / "lspet_fits.npy", np.zeros((N + 1, 82)))
    found = by_name(doctor_files.label_files(tmp_path))
    assert found["dataset_extras/h36m_valid_protocol2.npz"].text == f"{N} people"
    assert found["dataset_extras/hr-lspet_train.npz"].mark == BROKEN  # the fits of other people
    assert "its pictures are not in" in found["dataset_extras/3dpw_test.npz"].text
    assert "lacks S" in found["dataset_extras/mpi_inf_3dhp_valid.npz"].text
    assert "lsp_dataset_test" in found["dataset_extras/"].text

    page = {"Labels and fits": list(found.values())}
    alone = "; ".join(doctor.test_sets(page, {}, open_only=True))
    assert "h36m-p2: yes" in alone and "3dpw: lacks its pictures" in alone
    beside = "; ".join(doctor.test_sets(page, {BODY: OK, EXTRA: OK}, open_only=False))
    assert f"h36m-p2: lacks {H36M}" in beside


def test_the_doctor_knows_the_names_of_the_scripts():
    assert [LICENSED_FILES[key][1] for key in CORE_NEED] == list(doctor.DEMO_NEED)
    names = {name for _, name, _ in LICENSED_FILES.values()}
    assert {*doctor.EVAL_NEED, *doctor.GENDERS} <= names
    tests = {spec.test_file for spec in SPECS.values() if spec.test_file and spec.name != "dp_coco"}
    assert tests == set(doctor.TEST_SETS)


# --------------------------------------------------------------------------------------- packages and the self-test


@pytest.mark.parametrize(
    ("source", "mark", "said"),
    [
        ("__version__ = '2.1'", OK, "2.1"),
        ("__version__ = '1.9.9+cpu'", BROKEN, "too old"),
        ("import nothing_of_that_name", BROKEN, "nothing_of_that_name"),
        ("raise SystemExit(3)", BROKEN, "SystemExit"),
        (None, MISSING, "not installed"),
    ],
)
def test_packages(tmp_path, monkeypatch, source, mark, said):
    name = tmp_path.name  # another one for each case
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    finding = package(f"{name}>=2.0", MISSING, "", "pip install it")
    sys.modules.pop(name, None)
    assert finding.mark == mark and said in finding.text and (mark == OK or finding.cure)


def test_a_section_that_cannot_be_looked_at_is_one_line():
    def dying():
        raise ModuleNotFoundError("No module named 'torch'")
        yield

    (finding,) = section("Devices", dying)
    assert finding.mark == BROKEN and finding.name == "Devices" and "No module named 'torch'" in finding.text


def test_wrong_numbers_are_found_and_what_needs_them_is_left_out(monkeypatch):
    """A network that is a little off, and rasterisers that differ in a pixel."""
    steps = {step.name: step for step in doctor_self_test.STEPS}
    assets, _ = doctor_self_test.load_body()
    network, _ = doctor_self_test.load_network()
    image, _ = doctor_self_test.load_picture()
    output, _ = doctor_self_test.predict(network, image)
    body, _ = doctor_self_test.pose_body(assets, output)
    with pytest.raises(ValueError, match="Wrong numbers: camera"):
        doctor_self_test.predict(network, image + 1)

    draw = IUV_Renderer.verts2uvimg

    def off(self, vertices, cam):
        picture = draw(self, vertices, cam)
        picture[0, 1, 0, 0] += self.backend == "torch"
        return picture

    monkeypatch.setattr(IUV_Renderer, "verts2uvimg", off)
    with pytest.raises(ValueError, match="differ in 1 pixels"):
        doctor_self_test.render(assets, output, body)

    def wrong():
        raise ValueError("Wrong numbers: all of them.")

    broken = (doctor_self_test.Step("network", wrong), steps["picture"], steps["prediction"])
    marks = {finding.name: finding.mark for finding in doctor_self_test.self_test(broken)}
    assert marks == {"network": BROKEN, "picture": OK, "prediction": ABSENT}


def test_expected_numbers_have_a_tolerance():
    expected = doctor_self_test.Expected((1.0, 2.0), 0.1)
    expected.check("sizes", (1.05, 1.95))
    for wrong in ((1.2, 2.0), (1.0, float("nan"))):
        with pytest.raises(ValueError, match="Wrong numbers: sizes"):
            expected.check("sizes", wrong)
