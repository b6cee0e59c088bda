import os

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # before huggingface_hub reads it
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import torch

# The same sums, in the same order, on every machine. The models are so small that a second thread costs more than it
# gives; `make test` runs two processes instead.
torch.set_num_threads(1)
