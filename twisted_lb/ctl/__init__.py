"""`lbctl`: looking at a running balancer, asking it why, and steering it, over its admin API; standard library only."""
