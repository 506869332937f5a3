"""rolloom: RL post-training environments, rollouts and GRPO for hybrid reasoning policies."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("rolloom")
except PackageNotFoundError:
    __version__ = "0+unknown"
