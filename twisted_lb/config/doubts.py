"""Doubts: what a configuration may say, and probably does not mean; a line each, for the log at start."""

from collections.abc import Iterator

from twisted_lb.config.balancer import LoadBalancerConfig


def doubts(config: LoadBalancerConfig, descriptors: int, room: int) -> Iterator[str]:
    """What is doubtful about a configuration, in a process that may open so many `descriptors`, enough for `room` clients."""
    checks, timeouts, limits = config.health_check, config.timeouts, config.limits
    if checks.enabled and checks.answer_timeout_s > checks.interval_s:
        yield (
            f"health_check.timeout_s = {checks.answer_timeout_s:g} is longer than interval_s = {checks.interval_s:g}: "
            "a backend that does not answer is checked more seldom than that"
        )
    if checks.kind == "tcp" and "path" in checks.model_fields_set:
        yield 'health_check.path has no effect: kind = "tcp" only connects'
    if timeouts.attempt_s is not None and timeouts.attempt_s >= timeouts.response_head_s:
        yield (
            f"timeouts.attempt_s = {timeouts.attempt_s:g} has no effect: "
            f"response_head_s = {timeouts.response_head_s:g} bounds all attempts together"
        )
    if limits.connections is not None and limits.connections > room:
        yield (
            f"limits.connections = {limits.connections} is more than {descriptors} descriptors are enough for: "
            f"above {room} clients, each with a connection to a backend, requests get a 503"
        )
    if limits.connections is not None and limits.connections_per_client > limits.connections:
        yield (
            f"limits.connections_per_client = {limits.connections_per_client} has no effect: "
            f"connections = {limits.connections} is less"
        )
