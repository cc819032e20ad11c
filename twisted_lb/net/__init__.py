"""Moving bytes: the poller, the transports, and the path of one request through them."""
