"""Training: optimizers and schedules, checkpoints, the loop, and `fit`. To read the story, start with `trainer.py`."""
