"""HTTP/2 on the wire: frames (RFC 9113), HPACK (RFC 7541), and requests and responses as HTTP/1.1 has them. No I/O."""
