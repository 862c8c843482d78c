"""The engine of eval.py and eval_coco.py: protocols, scorers, resumable runs, reports."""
