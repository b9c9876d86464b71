"""The models that can be compared: each learns from a training set and scores every item for a person."""
