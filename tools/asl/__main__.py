"""Runs `python -m tools.asl FILE ...`: prints a line for each problem and exits with 1 if there is any."""

import sys

from tools.asl.check import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
