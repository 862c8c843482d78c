"""Users' images and videos -> detections, boxes, tracks and person crops."""
