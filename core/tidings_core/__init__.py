"""What is computed: pure functions on arrays. No wire, no database, no clock, no randomness of its own."""
