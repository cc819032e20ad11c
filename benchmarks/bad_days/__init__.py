"""Bad days, made on purpose: real processes over loopback, for ours and for other proxies alike.

`backend` misbehaves as it is told, `stage` runs processes, `proxies` knows how each contender is started and `recipes` with
what configuration, `load` asks and counts; `faults`, `returns`, `closers`, `moves`, `crowds`, `bulk`, `clock` and
`successions` are the scenarios, `results` is what they find, `page` renders what was measured, `soak` lasts.
"""
