"""What the tests stand on: real database servers and the like, never doubles of our code."""
