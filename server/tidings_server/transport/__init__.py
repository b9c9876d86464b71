"""Bytes in, bytes out: gRPC and a small HTTP listener. No rules live here."""
