"""Proof: which model is worth what, on events it has not seen."""
