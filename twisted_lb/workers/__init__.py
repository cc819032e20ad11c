"""Workers: several processes with one configuration. The parent decides and tells, the workers move requests."""
