"""Services that stop one after the other."""

from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import inlineCallbacks, maybeDeferred


class OrderedServices(MultiService):
    """Services that stop one after the other, first to last; a MultiService stops all at once."""

    @inlineCallbacks
    def stopService(self) -> Any:
        """Fires when the last one has stopped."""
        self.running = 0
        for child in list(self):
            yield maybeDeferred(child.stopService)
