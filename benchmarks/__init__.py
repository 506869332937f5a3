"""Speed beside a peer, measured in the same run; `python -m benchmarks` runs all. See docs/benchmarks.md."""
