"""One outside thing per file. Each raises errors of `tidings_core.errors`, never its library's own."""
