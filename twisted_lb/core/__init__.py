"""The core decides what to do: load balancing without sockets, clocks or chance; `now` and `rng` are arguments."""
