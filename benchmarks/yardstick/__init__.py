"""The yardstick: what a request costs a proxy, ours beside others. `scripts/bench` runs it, docs/benchmarks.md tells."""
