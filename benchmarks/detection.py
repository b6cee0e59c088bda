"""Cost of detection: a fine-tuning step at 1024 px with windows, and scoring 5,000 images with each scorer.

python benchmarks/detection.py                       # both
python benchmarks/detection.py step [--rounds 3]     # options of window_step.py
python benchmarks/detection.py scoring [--rounds 3]  # options of coco_scoring.py
"""

import sys

import coco_scoring
import window_step

PARTS = {"step": window_step.main, "scoring": coco_scoring.main}


def main() -> None:
    which, options = sys.argv[1:2], sys.argv[2:]
    if which and which[0] not in PARTS:
        sys.exit(f"{__doc__}\nNo part {which[0]!r}; expected {' or '.join(PARTS)}, or nothing for both.")
    for part in which or PARTS:
        PARTS[part](options)


if __name__ == "__main__":
    main()
