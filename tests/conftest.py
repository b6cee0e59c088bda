import os

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # before huggingface_hub reads it
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import torch

torch.set_num_threads(2)  # the same sums, in the same order, on every machine
