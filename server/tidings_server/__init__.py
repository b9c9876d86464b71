"""The server: one process that answers with a promoted release. `app.py` wires it; read that first."""
