"""The nightly run: look over, prove, learn, build, promote."""
