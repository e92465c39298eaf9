from benchmark.api import CellsFailed as CellsFailed
from benchmark.api import leaderboard as leaderboard
from benchmark.api import run as run
from benchmark.detector import Detector as Detector
from datamodules.components.sample import UserError as UserError
