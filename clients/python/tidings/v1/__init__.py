"""Generated messages and stubs of the wire contract (`make protos`)."""
