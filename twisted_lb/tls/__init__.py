"""TLS: certificates and their files, and the contexts that handshakes are made with. No sockets."""
