"""The admin side: what an operator sees of a running balancer."""
