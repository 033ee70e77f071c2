"""Settings of every test: one thread, and property-based tests that draw the same examples on every run."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("oodles", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("oodles")
