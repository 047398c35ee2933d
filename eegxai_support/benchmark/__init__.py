"""The leaderboard: a grid of simulated tasks, decoders and methods, each map scored against the known answer."""

from eegxai_support.benchmark.engine import run_benchmark
from eegxai_support.benchmark.evaluation import Experiment, evaluate_fit, experiment_of
from eegxai_support.benchmark.grid import Fit, read_grid
from eegxai_support.benchmark.ranking import rank_methods

__all__ = ["Experiment", "Fit", "evaluate_fit", "experiment_of", "rank_methods", "read_grid", "run_benchmark"]
