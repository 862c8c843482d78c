"""Label files: their arrays, values, checks, and the annotations of COCO and DensePose."""
