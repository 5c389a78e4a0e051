"""Sound → features: the three audio encoders, and the encoder states that each video frame sees."""
