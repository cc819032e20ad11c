"""What prompt caches bring with each policy, on virtual time: measured and rendered, for docs/inference.md."""
