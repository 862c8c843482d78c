"""torchvision's detectors: what is made of their answers, which files they are built from, and the real networks."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import without_init
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from datasets.people.crops import People
from datasets.people.torchvision_detector import (
    PUBLISHED,
    TorchvisionDetector,
    _network,
    cache_folder,
    load_torchvision,
)

BOXES = [[10.0, 20.0, 60.0, 120.0], [5.0, 5.0, 50.0, 50.0], [1.0, 2.0, 31.0, 42.0], [0.0, 0.0, 9.0, 9.0]]


class Answer:
    """A network that gives the same four boxes for every image: person, other, person, unsure person."""

    def __init__(self, keypoints=True):
        self.seen = []
        self.found = {
            "boxes": torch.tensor(BOXES),
            "labels": torch.tensor([1, 3, 1, 1]),
            "scores": torch.tensor([0.95, 0.9, 0.6, 0.4]),
        }
        if keypoints:
            self.found["keypoints"] = torch.ones(4, 17, 3) * torch.tensor([[[11.0, 22.0, 1.0]]])
            self.found["keypoints_scores"] = torch.linspace(-8, 8, 17).repeat(4, 1)

    def __call__(self, images):
        self.seen += images
        return [self.found]


def read_only(height=150, width=100):
    image = np.full((height, width, 3), 51, np.uint8)
    image.setflags(write=False)  # as Pillow's come
    return image


@pytest.mark.filterwarnings("error")
def test_people_above_the_score_come_out_as_corner_and_size():
    model = Answer()
    one, two = TorchvisionDetector(model).detect(read_only())
    assert one.box == (10, 20, 50, 100) and two.box == (1, 2, 30, 40)
    assert (one.score, two.score) == pytest.approx((0.95, 0.6)) and not one.is_whole
    (image,) = model.seen
    assert image.shape == (3, 150, 100) and torch.allclose(image, torch.tensor(0.2))
    assert len(TorchvisionDetector(model, min_score=0.3).detect(read_only())) == 3


def test_keypoints_keep_their_place_and_their_scores_become_confidences():
    (one, _) = TorchvisionDetector(Answer()).detect(read_only())
    assert one.keypoints.shape == (17, 3) and one.keypoints.dtype == np.float32
    assert (one.keypoints[:, :2] == [11, 22]).all()
    confidence = one.keypoints[:, 2]
    assert confidence[8] == 0.5 and (np.diff(confidence) > 0).all() and 0 < confidence[0] < confidence[-1] < 1
    assert TorchvisionDetector(Answer(keypoints=False)).detect(read_only())[0].keypoints is None


@pytest.mark.parametrize("name", ["auto", "none", "movenet"])
def test_weights_of_another_detector_are_refused(tmp_path, name):
    Image.fromarray(read_only()).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=f"belongs to --detector torchvision, not to '{name}'"):
        People(tmp_path, detector=name, detector_weights="file.pth")


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return cache_folder()


def test_without_weights_the_message_says_what_is_missing_where_and_whence(torch_home):
    with pytest.raises(ValueError) as caught:
        load_torchvision()
    for published in PUBLISHED:
        assert published.url in str(caught.value) and published.url.rsplit("/")[-1] in str(caught.value)
    assert str(torch_home) in str(caught.value) and "--detector_weights FILE" in str(caught.value)
    with pytest.raises(ValueError, match="no weights file 'gone.pth'.*fetch https://"):
        load_torchvision("gone.pth")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"conv1.weight": torch.zeros(1)}, "holds no detector of torchvision: expected the plain state dict"),
        ({"model": {}, 3: 4}, "holds no detector of torchvision"),
        ([1, 2], "holds no detector of torchvision"),
        ({"roi_heads.box_predictor.cls_score.weight": torch.zeros(91, 1024)}, "fasterrcnn_resnet50_fpn: Missing key"),
        ({"roi_heads.box_predictor.cls_score.weight": 3}, "does not fit torchvision's fasterrcnn_resnet50_fpn"),
        (
            {"roi_heads.box_predictor.a": torch.zeros(1), "roi_heads.keypoint_head.b": torch.zeros(1)},
            "does not fit torchvision's keypointrcnn_resnet50_fpn: Missing key",
        ),
    ],
)  # fmt: skip
def test_other_files_are_refused_in_a_short_sentence(tmp_path, content, said):
    torch.save(content, tmp_path / "w.pth")
    with without_init(), pytest.raises(ValueError, match=said) as caught:
        load_torchvision(tmp_path / "w.pth")
    assert len(str(caught.value)) < 1000


def published_form(model):
    """State dict as in the published files: batch norm is frozen, convolutions of the pyramid have older names."""
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    state = {re.sub(r"(rpn\.head\.conv)\.0\.0\.", r"\1.", k): v for k, v in state.items()}
    return {re.sub(r"(fpn\.\w+_blocks\.\d)\.0\.", r"\1.", k): v for k, v in state.items()}


@pytest.mark.parametrize(
    ("build", "reference", "classes"),
    [
        (detection.keypointrcnn_resnet50_fpn, detection.KeypointRCNN, 2),
        (detection.fasterrcnn_resnet50_fpn, detection.FasterRCNN, 91),
    ],
)
def test_the_real_networks_answer_as_torchvision_runs_its_published_weights(
    monkeypatch, build, reference, classes
):
    """Random weights, made to see people; torchvision's own way is frozen batch norm with eps 0."""
    model = build(weights=None, weights_backbone=None)
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias[1] += 9
        first = model.backbone.body.bn1
        first.running_var.fill_(1e-5), first.weight.fill_(1e-5**0.5)  # so that an eps of 1e-5 would be seen
    state = published_form(model)
    monkeypatch.setattr("datasets.people.torchvision_detector.load_torch", lambda path: state)
    with without_init():
        ours = _network("unused.pth")
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None)
        for layer in backbone.modules():
            layer.__dict__.update({"eps": 0.0} if hasattr(layer, "eps") else {})
        theirs = reference(backbone, classes)
    theirs.load_state_dict(dict(state))
    for network in (ours, theirs.eval()):
        network.transform.min_size, network.roi_heads.detections_per_img = (128,), 3
    image = np.random.default_rng(0).integers(0, 255, (100, 80, 3), np.uint8)
    found = TorchvisionDetector(ours).detect(image)
    with torch.inference_mode():
        (expected,) = theirs([torch.from_numpy(image).permute(2, 0, 1) / 255])
    assert len(found) == 3 and (expected["labels"] == 1).all()
    for person, box, score in zip(found, expected["boxes"], expected["scores"], strict=True):
        x, y, width, height = person.box
        assert (x, y, x + width, y + height) == pytest.approx(box.tolist(), abs=1e-3)
        assert person.score == pytest.approx(score.item(), abs=1e-5)
    if "keypoints" in expected:
        assert np.allclose(found[0].keypoints[:, :2], expected["keypoints"][0, :, :2], atol=1e-2)
    else:
        assert found[0].keypoints is None
