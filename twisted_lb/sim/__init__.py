"""A simulator: the real core on virtual time, against servers that are modelled."""
