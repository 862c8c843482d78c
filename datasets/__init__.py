"""What supplies pictures and labels. Read `utils/structures.py` first: every data set gives its `Sample`."""

from datasets.base_dataset import BaseDataset
from datasets.coco_dataset import COCODataset
from datasets.mixed_dataset import MixedDataset

__all__ = ["BaseDataset", "COCODataset", "MixedDataset"]
