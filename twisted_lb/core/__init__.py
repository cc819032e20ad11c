"""What to do: the balancer without sockets, clocks or chance of its own; `now` and `rng` are arguments."""
