"""Features: encoders, bags, multiple-instance models and statistics. Never opens a slide."""
