"""Every policy in the same situations, on virtual time: measured, rendered and drawn, for docs/policies.md."""
