"""The wire says what bytes mean: HTTP/1.1 heads, framing and rewriting, without a socket in sight."""
