"""Events in, a model out: embeddings, neighbours, statistics, a ranker, and the proof of what they are worth."""
