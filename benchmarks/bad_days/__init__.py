"""Bad days, made on purpose: real processes over loopback, for ours and for other proxies alike.

`backend` misbehaves as it is told, `stage` runs processes, `proxies` knows how each contender is started, `load` asks and
counts, `faults`, `crowds` and `bulk` are the scenarios, `page` renders what was measured, `soak` lasts.
"""
