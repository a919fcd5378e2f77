"""What a server counts, in the text format of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_INPUTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server, apart from those of others in the process."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "mhe_requests", "Requests by route and status.", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "mhe_request_seconds",
            "From a request's first byte to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "mhe_batch_inputs",
            "Inputs that went through a model together.",
            ["model", "program"],
            buckets=_INPUTS,
            registry=self.registry,
        )
        self._pending = Gauge(
            "mhe_pending_inputs", "Inputs that wait or are computed.", ["model"], registry=self.registry
        )
        self._step = Gauge("mhe_model_step", "Step of the weights that answer.", ["model"], registry=self.registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, model: str, program: str, size: int) -> None:
        """Counts a batch of inputs."""
        self._batches.labels(model, program).observe(size)

    def watch(self, model: str, state: Callable[[], tuple[int, int]]) -> None:
        """Asks for the state of a run, `(pending inputs, step)`, whenever the metrics are read."""
        self._pending.labels(model).set_function(lambda: state()[0])
        self._step.labels(model).set_function(lambda: state()[1])

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return generate_latest(self.registry)
