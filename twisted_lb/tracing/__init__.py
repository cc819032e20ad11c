"""Traces (OpenTelemetry): spans of requests, sent over OTLP/HTTP as JSON, without an SDK."""
