"""The leaderboard: a grid of simulated tasks, decoders and methods, each map scored against the known answer."""

from eegxai_support.benchmark.engine import run_benchmark
from eegxai_support.benchmark.evaluation import evaluate_fit
from eegxai_support.benchmark.grid import Fit, read_grid

__all__ = ["Fit", "evaluate_fit", "read_grid", "run_benchmark"]
