"""The published adaptive limits, as their sources have them, to be compared with ours on the same servers."""

from statistics import median

from twisted_lb.core.gradient import gradient_step


class Envoy:
    """Envoy's `gradient_controller.cc`: the median of each 100 ms, and every 60 s the median of 50 requests with 3 in flight."""

    def __init__(self, window_s: float = 0.1) -> None:
        self.limit = 3
        self._window_s = window_s
        self._unloaded_s = 0.0
        self._latencies: list[float] = []
        self._measures = True
        self._deferred = 3
        self._began = self._next = self._measured_at = 0.0
        self._at_least = 0

    def leased(self, in_flight: int) -> None:
        """It counts nothing."""

    def observe(self, latency_s: float, in_flight: int, now: float) -> None:
        if now - latency_s < self._began:
            return
        self._latencies.append(latency_s)
        if self._measures and len(self._latencies) >= 50:
            self._unloaded_s, self._measures, self.limit = self._take(), False, self._deferred
            self._measured_at, self._next = now, now + self._window_s
        elif not self._measures and now >= self._next:
            self._next, before = now + self._window_s, self.limit
            self.limit = int(max(3, min(1000, gradient_step(before, self._unloaded_s, self._take()))))
            self._at_least = self._at_least + 1 if before == self.limit == 3 else 0
            if now - self._measured_at >= 60 or self._at_least >= 5:
                self._measures, self._deferred, self.limit = True, self.limit, 3
                self._began, self._at_least = now, 0

    def _take(self) -> float:
        taken, self._latencies = median(self._latencies), []
        return taken


class Gradient2:
    """Netflix's `Gradient2Limit.java`: each latency against an average of 600, with a queue of 4 and a smoothing of 0.2."""

    def __init__(self, least: int = 1, most: int = 200) -> None:
        self.limit = 20
        self._estimate = 20.0
        self._bounds = least, most
        self._long_s = self._sum = 0.0
        self._count = 0

    def leased(self, in_flight: int) -> None:
        """It counts nothing."""

    def observe(self, latency_s: float, in_flight: int, now: float) -> None:
        if self._count < 10:
            self._count += 1
            self._sum += latency_s
            self._long_s = self._sum / self._count
        else:
            self._long_s += (latency_s - self._long_s) * 2 / 601
        if self._long_s > 2 * latency_s:
            self._long_s *= 0.9
        if in_flight < self._estimate / 2:
            return
        gradient = max(0.5, min(1.0, self._long_s / latency_s))
        found = self._estimate * 0.8 + (self._estimate * gradient + 4) * 0.2
        self._estimate = max(self._bounds[0], min(self._bounds[1], found))
        self.limit = int(self._estimate)
